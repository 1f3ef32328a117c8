//! What commands keep in cache mounts is shared too, for the ids that are named.

use std::sync::atomic::{AtomicU32, Ordering};

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::Output;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::wire::{Direction, Trouble, Wire};

use super::{MEGABYTE, Machine, no_warning, noise, warnings};

/// A machine that shares the mount `kept`.
fn machine(user: TestUser, url: &str) -> Machine {
    Machine::new(user, "context", &[&format!("{url},mounts=kept")])
}

/// Builds a RUN that has the mount at `/kept`, and was never built before.
fn run(machine: &Machine, script: &str) -> Output {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    machine
        .context
        .dockerfile(&bases::busybox().dockerfile(&format!(
            "RUN --mount=type=cache,id=kept,target=/kept \\\n : {number}; {script}\n"
        )));
    machine.command(&[]).run()
}

/// Asserts what a build sees in the mount.
#[track_caller]
fn sees(machine: &Machine, files: &str) {
    let output = run(machine, "echo seen: $(ls /kept)");
    output.success();
    let line = format!("seen: {files}");
    assert!(
        output.progress().has_output(line.trim_end()),
        "{line:?}: {output}"
    );
}

#[test]
fn a_machine_that_has_none_gets_what_another_one_kept() {
    let server = CacheServer::start();
    let first = machine(TestUser::Sub, &server.url());
    let script = "mkdir /kept/d && echo made > /kept/d/file && ln -s d/file /kept/link && \
                  chmod 600 /kept/d/file && chown 33:33 /kept/d/file";
    no_warning(&run(&first, script)).success();

    let second = machine(TestUser::Other, &server.url());
    let output = run(
        &second,
        "cat /kept/link && stat -c '%a %u:%g' /kept/d/file && echo more > /kept/more",
    );
    no_warning(&output).success();
    for line in ["made", "600 33:33"] {
        assert!(output.progress().has_output(line), "{line}: {output}");
    }
    // What the second one adds, a third one has.
    sees(&machine(TestUser::Sub, &server.url()), "d link more");
}

#[test]
fn what_a_machine_has_itself_stays() {
    let server = CacheServer::start();
    let own = machine(TestUser::Other, &server.url());
    let first = machine(TestUser::Sub, &server.url());
    run(&own, "touch /kept/own").success();
    run(&first, "touch /kept/theirs").success();
    let output = run(&own, "echo again $(ls /kept)");
    assert!(output.progress().has_output("again own"), "{output}");
}

#[test]
fn only_mounts_that_are_named_are_shared() {
    let server = CacheServer::start();
    let first = Machine::new(TestUser::Sub, "context", &[&server.url()]);
    run(&first, "touch /kept/private").success();
    sees(&machine(TestUser::Other, &server.url()), "");
    let first = machine(TestUser::Sub, &server.url());
    run(&first, "touch /kept/shared").success();
    sees(
        &Machine::new(TestUser::Other, "context", &[&server.url()]),
        "",
    );
    sees(&machine(TestUser::Other, &server.url()), "shared");
}

#[test]
fn a_build_that_fails_shares_nothing() {
    let server = CacheServer::start();
    let first = machine(TestUser::Sub, &server.url());
    run(&first, "touch /kept/half && exit 1").exit_code(1);
    sees(&machine(TestUser::Other, &server.url()), "");
}

#[test]
fn only_what_is_new_is_sent() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let first = machine(TestUser::Sub, &wire.url());
    first.context.file("noise", noise(5, 5 * MEGABYTE));
    let with_noise =
        |machine: &Machine, script: &str| {
            machine.context.dockerfile(&bases::busybox().dockerfile(&format!(
            "RUN --mount=type=cache,id=kept,target=/kept --mount=target=/context \\\n {script}\n"
        )));
            no_warning(&machine.command(&[]).run()).success();
        };
    with_noise(&first, "cp /context/noise /kept/");
    assert!(wire.passed().up > 4 * MEGABYTE, "{:?}", wire.passed());
    wire.forget();
    with_noise(&first, "echo little > /kept/little");
    assert!(wire.passed().up < MEGABYTE, "{:?}", wire.passed());
}

#[test]
fn trouble_with_it_fails_no_build() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let first = machine(TestUser::Sub, &wire.url());
    run(&first, "head -c 1000000 /dev/urandom > /kept/random").success();
    for trouble in [
        Trouble::Cut(Direction::Down, 100_000),
        Trouble::Corrupt(Direction::Down, 200_000),
        Trouble::Stall(Direction::Down, 100_000),
    ] {
        wire.set(ashlar_test_support::wire::Plan::Each(trouble));
        let second = machine(TestUser::Other, &wire.url());
        let output = run(&second, "wc -c /kept/random || echo none");
        output.success();
        // One of the cache, and one of the mount that has nothing because of it.
        let warnings = warnings(&output);
        let (of_mounts, of_cache): (Vec<_>, Vec<_>) = warnings
            .iter()
            .partition(|warning| warning.contains("/kept"));
        assert!(
            of_mounts.len() <= 1 && of_cache.len() <= 1,
            "{trouble:?}: {output}"
        );
        // All of it or nothing.
        let progress = output.progress();
        assert!(
            progress.has_output("1000000 /kept/random") || progress.has_output("none"),
            "{trouble:?}: {output}"
        );
        second.home.assert_clean();
    }
}
