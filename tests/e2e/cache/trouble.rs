//! The cache never fails a build: whatever is wrong with it, there is one warning, the right
//! image, and little time lost.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::Output;
use ashlar_test_support::registry::free_port;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::wire::{Direction, Plan, Trouble, Wire};

use super::{EVERYTHING, MEGABYTE, Machine, branches, no_warning, noise, one_warning, warnings};

/// How much longer than without a cache a build may take, for all the trouble together.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the build takes without a cache, and at most with a bad one.
fn limit() -> Duration {
    let machine = Machine::new(TestUser::Sub, "context", &[]);
    branches(&machine.context);
    machine.output(&["-t", "made"]).elapsed() + PATIENCE
}

/// Asserts that the image is what it is to be.
#[track_caller]
fn right(machine: &Machine) {
    let tree = machine.home.build_tree(&machine.context, &[]);
    tree.at("light").has_content(noise(2, 2 * MEGABYTE));
    tree.at("right").has_content("right\n");
    machine.home.assert_clean();
}

#[track_caller]
fn in_time(output: &Output, limit: Duration) {
    assert!(
        output.elapsed() < limit,
        "it should have taken {limit:?} at most: {output}"
    );
}

#[test]
fn nobody_listens() {
    let machine = Machine::first(&format!("grpc://127.0.0.1:{}", free_port()));
    let limit = limit();
    let output = machine.output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "127.0.0.1");
    in_time(&output, limit);
    right(&machine);
}

#[test]
fn the_address_is_that_of_a_machine_that_does_not_answer() {
    // A connection that is accepted, and no more.
    let server = CacheServer::start();
    let wire = Wire::with_plan(server.port(), Plan::Each(Trouble::Stall(Direction::Up, 0)));
    let machine = Machine::first(&wire.url());
    let limit = limit();
    let output = machine.output(&[]);
    one_warning(&output, &wire.host());
    in_time(&output, limit);
    right(&machine);
}

#[test]
fn somebody_listens_who_speaks_something_else() {
    let registry = ashlar_test_support::registry::Registry::start();
    let machine = Machine::first(&format!("grpc://{}", registry.host()));
    let limit = limit();
    let output = machine.output(&[]);
    one_warning(&output, &registry.host());
    in_time(&output, limit);
    right(&machine);
}

/// A build of [`branches`] with a step in it that takes two seconds, during which something
/// happens to the cache.
fn disturbed(disturb: impl FnOnce(&mut CacheServer, &Wire)) -> (Machine, Output) {
    let mut server = CacheServer::start();
    let wire = Wire::before(server.port());
    let machine = Machine::first(&wire.url());
    let text = fs::read_to_string(machine.context.path().join("Dockerfile")).unwrap();
    machine
        .context
        .dockerfile(&text.replace("RUN sha256sum", "RUN echo started; sleep 2; sha256sum"));
    let limit = limit() + Duration::from_secs(2);
    let mut running = machine.command(&[]).start();
    running.wait_for_output("started");
    disturb(&mut server, &wire);
    let output = running.wait();
    output.success();
    in_time(&output, limit);
    server_goes_on(&mut server);
    (machine, output)
}

/// A server that was frozen would not see that it is to end.
fn server_goes_on(server: &mut CacheServer) {
    if server.is_running() {
        server.thaw();
    }
}

#[test]
fn the_server_is_killed_midway() {
    let (machine, output) = disturbed(|server, _| server.kill());
    one_warning(&output, "127.0.0.1");
    right(&machine);
}

#[test]
fn the_server_freezes_midway() {
    let (machine, output) = disturbed(|server, _| server.freeze());
    one_warning(&output, "127.0.0.1");
    right(&machine);
}

#[test]
fn the_connection_stalls_midway() {
    for direction in [Direction::Up, Direction::Down] {
        let (machine, output) = disturbed(|_, wire| wire.always(Trouble::Stall(direction, 0)));
        one_warning(&output, "127.0.0.1");
        right(&machine);
    }
}

#[test]
fn the_connection_is_cut_once_and_nobody_notices() {
    let (machine, output) = disturbed(|_, wire| wire.now(Trouble::Cut(Direction::Up, 0)));
    // What is asked again may be asked without a word.
    assert!(warnings(&output).len() <= 1, "{output}");
    right(&machine);
}

#[test]
fn a_server_that_was_killed_and_comes_back_gives_what_it_took() {
    let mut server = CacheServer::start();
    let wire = Wire::before(server.port());
    Machine::first(&wire.url()).build(&[]);
    server.kill();
    server.launch_elsewhere();
    wire.lead_to(server.port());
    let output = Machine::second(&wire.url()).output(&[]);
    no_warning(&output).progress().assert_ran(&[]);
}

#[test]
fn wrong_bytes_are_noticed() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    let (digest, _) = Machine::first(&wire.url()).image(&[]);
    let limit = limit();
    // In the middle of the light layer's chunks, and in what is said before.
    for at in [MEGABYTE, 300, 2000, 20_000] {
        wire.set(Plan::Each(Trouble::Corrupt(Direction::Down, at)));
        let second = Machine::second(&wire.url());
        let (got, output) = second.image(&[]);
        in_time(&output, limit);
        // An answer about what is there may be changed too, and then blobs seem to be gone.
        assert!(warnings(&output).len() <= 2, "{output}");
        // What was found in other ways, or made again, has other times.
        if warnings(&output).is_empty() && output.progress().ran().is_empty() {
            assert_eq!(got, digest, "{at}: {output}");
        }
        right(&second);
    }
}

/// The files of blobs that are large enough to be pieces of layers.
pub(super) fn large_files(server: &CacheServer) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![server.root()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else if entry.metadata().unwrap().len() > 30_000 {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn blobs_are_gone_after_the_hit() {
    let mut server = CacheServer::start();
    let wire = Wire::before(server.port());
    Machine::first(&wire.url()).build(&[]);
    let second = Machine::second(&wire.url());
    // All is a hit, and nothing is fetched yet.
    second.build(&["-t", "made"]).assert_ran(&[]);
    let files = large_files(&server);
    assert!(!files.is_empty(), "there is no blob to lose");
    for file in files {
        fs::remove_file(file).unwrap();
    }
    // What it has open it still has.
    server.kill();
    server.launch_elsewhere();
    wire.lead_to(server.port());
    let (_, output) = second.image(&[]);
    // What the image needs and nobody has is made again.
    let progress = output.progress();
    let ran = progress.ran();
    assert!(
        ran.iter().any(|ran| ran.starts_with("COPY light")),
        "{output}"
    );
    assert!(warnings(&output).len() <= 1, "{output}");
    right(&second);
}

#[test]
fn damaged_blobs_of_the_server_are_never_used() {
    let server = CacheServer::start();
    Machine::first(&server.url()).build(&[]);
    for file in large_files(&server) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        fs::write(&file, bytes).unwrap();
    }
    let second = Machine::second(&server.url());
    let (_, output) = second.image(&[]);
    assert!(warnings(&output).len() <= 1, "{output}");
    right(&second);
}

#[test]
fn a_full_cache_takes_what_fits() {
    let server = CacheServer::prepare().with(["--limit", "16MB"]).started();
    let limit = limit();
    for (user, seed) in [(TestUser::Sub, 7), (TestUser::Other, 8)] {
        let machine = Machine::new(user, "context", &[&server.url()]);
        branches(&machine.context);
        machine.context.file("heavy", noise(seed, 30 * MEGABYTE));
        let output = machine.output(&["-t", "made"]);
        // That it is full, and that it has dropped what its results name.
        assert!(warnings(&output).len() <= 2, "{output}");
        // It is a larger build than the one that the limit is made of.
        in_time(&output, limit * 2);
        right(&machine);
        let size = on_disk(&server.root());
        assert!(size < 20 * MEGABYTE, "{size} bytes are more than the limit");
    }
    // What it answers is right even so.
    let machine = Machine::second(&server.url());
    machine.build(&["-t", "made"]);
    right(&machine);
}

/// What a directory takes on its disk.
fn on_disk(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        sum += if entry.file_type().unwrap().is_dir() {
            on_disk(&entry.path())
        } else {
            entry.metadata().unwrap().blocks() * 512
        };
    }
    sum
}

#[test]
fn the_token_is_refused() {
    let server = CacheServer::prepare();
    let token = server.file("token", "the-right-one-for-this-server\n");
    let server = server
        .with(["--write-token-file".as_ref(), token.as_os_str()])
        .started();
    let machine = Machine::first(&server.url());
    let limit = limit();
    let output = machine.output(&[]);
    one_warning(&output, "127.0.0.1");
    in_time(&output, limit);
    right(&machine);
}

#[test]
fn a_build_that_is_interrupted_while_it_sends_ends_at_once() {
    let server = CacheServer::start();
    let wire = Wire::before(server.port());
    wire.always(Trouble::Delay(Duration::from_millis(300)));
    let machine = Machine::first(&wire.url());
    let mut running = machine.command(&["-t", "made"]).start();
    running.wait_until("the last step's end", |running| {
        let stderr = running.stderr();
        let progress = ashlar_test_support::progress::Progress::parse(&stderr);
        progress
            .ran()
            .iter()
            .any(|ran| ran.starts_with("RUN cat /small"))
    });
    thread::sleep(Duration::from_millis(300));
    running.signal(rustix::process::Signal::INT);
    let asked = Instant::now();
    let output = running.wait();
    assert!(asked.elapsed() < Duration::from_secs(5), "{output}");
    machine.home.assert_clean();
}

#[test]
fn a_step_that_fails_fails_as_without_a_cache() {
    let server = CacheServer::start();
    let machine = Machine::new(TestUser::Sub, "context", &[&server.url()]);
    machine
        .context
        .dockerfile(&bases::busybox().dockerfile("RUN echo fine\nRUN exit 3\n"));
    for _ in 0..2 {
        let output = machine.command(&[]).run();
        output.exit_code(1).one_error();
        no_warning(&output);
    }
    let second = Machine::new(TestUser::Other, "other", &[&server.url()]);
    second
        .context
        .dockerfile(&bases::busybox().dockerfile("RUN echo fine\nRUN exit 3\n"));
    let output = second.command(&[]).run();
    output.exit_code(1);
    assert_eq!(output.progress().cached(), ["RUN echo fine"], "{output}");
}
