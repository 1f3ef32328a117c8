//! Caches without a server: in a registry, and in a directory.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::registry::{Fault, Proxy, Registry};
use ashlar_test_support::user::TestUser;

use super::{EVERYTHING, MEGABYTE, Machine, branches, no_warning, one_warning};

fn machine(user: TestUser, options: &[&str]) -> Machine {
    let mut machine = Machine::new(user, "context", &[]);
    branches(&machine.context);
    machine.cache = options.iter().map(|option| (*option).to_owned()).collect();
    machine
}

/// What both kinds do.
fn goes_round(to: &str, from: &str) {
    let first = machine(TestUser::Sub, &["--cache-to", to]);
    let (digest, output) = first.image(&[]);
    no_warning(&output).progress().assert_ran(&EVERYTHING);

    let second = machine(TestUser::Other, &["--cache-from", from]);
    let (same, output) = second.image(&[]);
    no_warning(&output).progress().assert_ran(&[]);
    assert_eq!(same, digest);

    let third = machine(TestUser::Other, &["--cache-from", from]);
    third.context.file("small", "SMALL\n");
    let output = third.output(&[]);
    no_warning(&output)
        .progress()
        .assert_ran(&["COPY small", "RUN cat /small"]);
    third.home.assert_clean();
}

#[test]
fn a_registry_is_a_cache() {
    let registry = Registry::start();
    let name = registry.reference("app/cache:main");
    let option = format!("type=registry,ref={name}");
    goes_round(&option, &option);
}

#[test]
fn a_directory_is_a_cache() {
    let place = ashlar_test_support::home::TestHome::sub();
    let directory = place.directory("cache");
    goes_round(
        &format!("type=local,dest={}", directory.display()),
        &format!("type=local,src={}", directory.display()),
    );
}

#[test]
fn a_second_build_sends_what_is_new() {
    let registry = Registry::start();
    let proxy = Proxy::before(registry.port(), Fault::None);
    let name = proxy.reference("app/cache:main");
    let option = format!("type=registry,ref={name}");
    let options = ["--cache-to", &option, "--cache-from", &option];
    let first = machine(TestUser::Sub, &options);
    first.build(&[]);
    let received = |proxy: &Proxy| -> u64 {
        let requests = proxy.requests();
        requests.iter().map(|request| request.received as u64).sum()
    };
    assert!(received(&proxy) > 10 * MEGABYTE);
    proxy.forget();
    let second = machine(TestUser::Other, &options);
    second.context.file("small", "SMALL\n");
    second.build(&[]);
    assert!(received(&proxy) < MEGABYTE, "{}", received(&proxy));
    // What the first one wrote is still found.
    let third = machine(TestUser::Sub, &["--cache-from", &option]);
    third.build(&[]).assert_ran(&[]);
}

#[test]
fn a_cache_that_is_not_there_fails_no_build() {
    let registry = Registry::start();
    let from = format!("type=registry,ref={}", registry.reference("nothing:here"));
    let output = machine(TestUser::Sub, &["--cache-from", &from]).output(&[]);
    output.progress().assert_ran(&EVERYTHING);

    let proxy = Proxy::before(registry.port(), Fault::Status(500));
    let option = format!("type=registry,ref={}", proxy.reference("broken:here"));
    let output = machine(
        TestUser::Sub,
        &["--cache-from", &option, "--cache-to", &option],
    )
    .output(&[]);
    one_warning(&output, &proxy.host());
}

#[test]
fn damaged_bytes_of_a_registry_are_not_used() {
    let registry = Registry::start();
    let to = format!("type=registry,ref={}", registry.reference("cache:main"));
    machine(TestUser::Sub, &["--cache-to", &to]).build(&[]);
    for fault in [Fault::WrongDigest, Fault::HalfBlob] {
        let proxy = Proxy::before(registry.port(), fault);
        let from = format!("type=registry,ref={}", proxy.reference("cache:main"));
        let second = machine(TestUser::Other, &["--cache-from", &from]);
        second.build(&["-t", "made"]);
        let tree = second.home.build_tree(&second.context, &[]);
        tree.at("right").has_content("right\n");
        second.home.assert_clean();
    }
}

#[test]
fn a_directory_that_is_damaged_fails_no_build() {
    let place = ashlar_test_support::home::TestHome::sub();
    let directory = place.directory("cache");
    let to = format!("type=local,dest={}", directory.display());
    let from = format!("type=local,src={}", directory.display());
    machine(TestUser::Sub, &["--cache-to", &to]).build(&[]);
    let mut directories = vec![directory];
    let mut damaged = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
                continue;
            }
            let mut bytes = fs::read(entry.path()).unwrap();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 0x20;
            }
            fs::write(entry.path(), bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "there is nothing in the cache");
    let second = machine(TestUser::Other, &["--cache-from", &from]);
    second.build(&["-t", "made"]);
    let tree = second.home.build_tree(&second.context, &[]);
    tree.at("right").has_content("right\n");
}

#[test]
fn a_wrong_option_is_an_error_before_anything_is_built() {
    let machine = Machine::new(TestUser::Sub, "context", &[]);
    machine
        .context
        .dockerfile(&bases::busybox().dockerfile("RUN echo run\n"));
    for (option, value, told) in [
        ("--cache", "ftp://host", "grpc://"),
        ("--cache", "grpc://host,mode=sometimes", "readwrite"),
        ("--cache", "grpc://host:port", "port"),
        ("--cache-to", "type=cloud", "type"),
        ("--cache-to", "type=registry", "ref"),
        ("--cache-from", "type=local", "src"),
    ] {
        let output = machine.command(&[option, value]).run();
        assert!(matches!(output.code(), Some(1 | 2)), "{output}");
        let error = output.one_error();
        assert!(output.stderr().contains(told), "{told}: {error}");
        assert!(!output.stderr().contains("RUN echo run"), "{output}");
    }
}
