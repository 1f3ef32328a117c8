//! What one machine made, another does not make again.

use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::judge;
use ashlar_test_support::registry::{Fault, Proxy, Registry};
use ashlar_test_support::trace::Trace;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::wire::Wire;

use super::{EVERYTHING, MEGABYTE, Machine, branches, no_warning, noise};

#[test]
fn another_machine_runs_no_step_and_has_the_same_image() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let first = Machine::first(&wire.url());
    let (digest, output) = first.image(&[]);
    no_warning(&output).progress().assert_ran(&EVERYTHING);
    let sent = wire.passed().up;
    assert!(
        sent > 10 * MEGABYTE,
        "the layers were not sent: {sent} bytes were"
    );

    let second = Machine::second(&wire.url());
    // Another time of the same file is no change.
    second.context.modified("small", 1_000_000_000);
    wire.forget();
    let (same, output) = second.image(&[]);
    no_warning(&output).progress().assert_ran(&[]);
    assert_eq!(same, digest);
    assert!(
        wire.passed().up < 100_000,
        "a build without a miss sends: {:?}",
        wire.passed()
    );
    first.home.assert_clean();
    second.home.assert_clean();

    // Without the cache there is a server behind: it takes a home of its own to see that.
    let alone = Machine::new(TestUser::Other, "alone", &[]);
    branches(&alone.context);
    alone.build(&[]).assert_ran(&EVERYTHING);
}

#[test]
fn what_is_cached_and_asked_for_by_nobody_is_not_fetched() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    Machine::first(&wire.url()).build(&["-t", "made"]);
    let second = Machine::second(&wire.url());
    wire.forget();
    let options: Vec<&str> = second.cache.iter().map(String::as_str).collect();
    let trace = Trace::of_build(&second.home, &second.context, &options);
    assert_eq!(trace.of_namespaces(), [""; 0]);
    assert_eq!(trace.programs().len(), 1, "{:?}", trace.programs());
    let passed = wire.passed();
    assert!(passed.down < 100_000 && passed.up < 100_000, "{passed:?}");
    second.home.assert_clean();
}

#[test]
fn what_was_not_fetched_is_when_an_output_needs_it() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let (digest, _) = Machine::first(&wire.url()).image(&[]);
    let second = Machine::second(&wire.url());
    second.build(&["-t", "made"]);
    wire.forget();
    // From the store's records alone, in a later process.
    assert_eq!(second.image(&[]).0, digest);
    let down = wire.passed().down;
    assert!(
        (2 * MEGABYTE..5 * MEGABYTE).contains(&down),
        "the image's own layers have 2 MB, those of its first stage 8 more: {down} bytes came"
    );
    let directory = second.home.path("layout");
    let reading = judge::everyone(&format!("oci:{}", directory.display()));
    reading.tree.at("light").has_content(noise(2, 2 * MEGABYTE));
    reading.tree.at("right").has_content("right\n");
    // And once is enough.
    wire.forget();
    assert_eq!(second.image(&[]).0, digest);
    assert!(wire.passed().down < 100_000, "{:?}", wire.passed());
}

#[test]
fn a_miss_in_the_middle_fetches_what_the_step_needs() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    Machine::first(&wire.url()).build(&[]);
    let second = Machine::second(&wire.url());
    second.context.file("small", "SMALL\n");
    wire.forget();
    let output = second.output(&["-t", "made"]);
    output
        .progress()
        .assert_ran(&["COPY small", "RUN cat /small"]);
    let passed = wire.passed();
    assert!(
        (2 * MEGABYTE..5 * MEGABYTE).contains(&passed.down),
        "the last stage's light layer was needed, and the heavy one was not: {passed:?}"
    );
    assert!(
        passed.up < MEGABYTE / 2,
        "only two small layers are new: {passed:?}"
    );
    second.home.assert_clean();
    // What it made is shared in its turn.
    let third = Machine::second(&wire.url());
    third.context.file("small", "SMALL\n");
    third.build(&[]).assert_ran(&[]);
}

#[test]
fn a_changed_file_runs_what_depends_on_it_and_sends_the_chunks_that_differ() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    Machine::first(&wire.url()).build(&[]);
    let second = Machine::second(&wire.url());
    let mut heavy = noise(1, 8 * MEGABYTE);
    // Some bytes more in the middle: what follows lies elsewhere, and is the same.
    heavy.splice(4_000_000..4_000_000, *b"only this is new");
    second.context.file("heavy", heavy);
    wire.forget();
    let output = second.output(&["-t", "made"]);
    output.progress().assert_ran(&[
        "COPY heavy",
        "RUN sha256sum",
        "COPY --from=left",
        "COPY --from=right",
        "COPY small",
        "RUN cat /small",
    ]);
    let passed = wire.passed();
    assert!(passed.up < MEGABYTE, "{passed:?}");
}

#[test]
fn a_step_that_gives_what_it_gave_before_is_a_hit_for_what_follows() {
    let server = CacheServer::start();
    let dockerfile = |comment: &str| {
        bases::busybox().dockerfile(&format!(
            "COPY f /f\nRUN {comment}; cut -c1 /f > /first && rm /f\nRUN cat /first > /second\n"
        ))
    };
    let first = Machine::new(TestUser::Sub, "context", &[&server.url()]);
    first
        .context
        .dockerfile(&dockerfile(": one"))
        .file("f", "abc");
    first.build(&[]);
    let second = Machine::new(TestUser::Other, "other", &[&server.url()]);
    second
        .context
        .dockerfile(&dockerfile(": two"))
        .file("f", "abc");
    // The second RUN was never seen after this one, but after the same files.
    second.build(&[]).assert_ran(&["RUN : two"]);
}

#[test]
fn a_cached_build_that_pushes_moves_no_layer_byte() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let registry = Registry::start();
    let proxy = Proxy::before(registry.port(), Fault::None);
    let first = Machine::first(&wire.url());
    first.build(&["-t", &proxy.reference("app:1"), "--push"]);
    let second = Machine::second(&wire.url());
    wire.forget();
    proxy.forget();
    let output = second.output(&["-t", &proxy.reference("app:2"), "--push"]);
    output.progress().assert_ran(&[]);
    let passed = wire.passed();
    assert!(passed.down < 100_000, "{passed:?}");
    let requests = proxy.requests();
    let moved: usize = requests
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .map(|request| request.sent + request.received)
        .sum();
    assert!(moved < 20_000, "{requests:#?}");
    let manifest =
        |tag: &str| judge::skopeo_manifest(&format!("docker://{}", registry.reference(tag)));
    assert_eq!(manifest("app:1"), manifest("app:2"));
}

#[test]
fn a_layer_that_the_registry_lacks_is_fetched_and_pushed() {
    let server = CacheServer::start();
    Machine::first(&server.url()).build(&[]);
    let registry = Registry::start();
    let second = Machine::second(&server.url());
    let name = registry.reference("app:1");
    let output = second.output(&["-t", &name, "--push"]);
    output.progress().assert_ran(&[]);
    let reading = judge::skopeo_and_tar(&format!("docker://{name}"));
    reading.tree.at("light").has_content(noise(2, 2 * MEGABYTE));
}

#[test]
fn a_cache_that_is_only_read_gets_nothing_and_one_that_is_only_written_gives_nothing() {
    let server = CacheServer::start();
    let read = format!("{},mode=read", server.url());
    let write = format!("{},mode=write", server.url());
    Machine::first(&read).build(&[]);
    let second = Machine::second(&server.url());
    second.build(&[]).assert_ran(&EVERYTHING);
    let third = Machine::second(&write);
    third.build(&[]).assert_ran(&EVERYTHING);
    let fourth = Machine::first(&read);
    fourth.build(&[]).assert_ran(&[]);
}

#[test]
fn instances_share_nothing() {
    let server = CacheServer::start();
    let of = |instance: &str| format!("{},instance={instance}", server.url());
    Machine::first(&of("team/one")).build(&[]);
    let output = Machine::second(&of("team/two")).output(&[]);
    no_warning(&output).progress().assert_ran(&EVERYTHING);
    let output = Machine::second(&of("team/one")).output(&[]);
    no_warning(&output).progress().assert_ran(&[]);
}

#[test]
fn several_caches_are_asked_in_order() {
    let (near, far) = (CacheServer::start(), CacheServer::start());
    Machine::first(&far.url()).build(&[]);
    let both = Machine::new(TestUser::Other, "both", &[&near.url(), &far.url()]);
    branches(&both.context);
    let output = both.output(&[]);
    no_warning(&output).progress().assert_ran(&[]);
}

#[test]
fn the_environment_and_a_unix_socket_name_a_cache_too() {
    let server = CacheServer::prepare().on_socket().started();
    let first = Machine::new(TestUser::Sub, "context", &[]);
    branches(&first.context);
    let output = first.command(&[]).env("ASHLAR_CACHE", server.url()).run();
    no_warning(&output).success();
    let second = Machine::second(&server.url());
    second.build(&[]).assert_ran(&[]);
}

#[test]
fn a_build_may_leave_before_all_is_sent() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    // Every piece of up to 64 kB waits: 10 MB would take half a minute.
    wire.always(ashlar_test_support::wire::Trouble::Delay(
        Duration::from_millis(200),
    ));
    let machine = Machine::first(&wire.url());
    let output = machine.output(&["--cache-wait=0", "-t", "made"]);
    assert!(output.elapsed() < Duration::from_secs(20), "{output}");
    machine.home.assert_clean();
}
