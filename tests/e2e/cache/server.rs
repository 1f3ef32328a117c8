//! `ashlar-cache`: its settings, who may do what, how it is watched and how it ends.

use std::fs;
use std::thread;
use std::time::Duration;

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::registry::{Authority, free_port};
use ashlar_test_support::user::TestUser;
use ashlar_test_support::wire::{Trouble, Wire};
use rustix::process::Signal;

use super::{EVERYTHING, Machine, branches, no_warning, one_warning};

const TOKEN: &str = "a-token-that-nobody-guesses";

#[test]
fn a_settings_file_is_checked_before_it_is_used() {
    let server = CacheServer::prepare();
    let check = |text: &str| {
        let file = server.file("config.toml", text);
        server
            .command([
                "check-config".as_ref(),
                "--config".as_ref(),
                file.as_os_str(),
            ])
            .run()
    };
    let root = server.root().display().to_string();
    check(&format!("root = \"{root}\"\nlimit = \"2GB\"\n")).success();
    for (text, told) in [
        ("root = \"/x\"\nsize = \"2GB\"\n", "size"),
        ("root = \"/x\"\nlimit = \"much\"\n", "much"),
        ("limit = \"2GB\"\n", "root"),
        ("root = \"/x\"\ntls_cert = \"/cert\"\n", "tls"),
        ("root = \"/x\"\nlisten = \"0.0.0.0:1\"\n", "token"),
        ("root = [", "config.toml"),
    ] {
        let output = check(text);
        assert_ne!(output.code(), Some(0), "{text}: {output}");
        let error = output.stderr().to_lowercase();
        assert!(error.contains(told), "{text}: {output}");
    }
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let server = CacheServer::prepare();
    let file = server.file(
        "config.toml",
        "limit = \"17MB\"\nlow_watermark = \"40%\"\nread_only = true\n",
    );
    let root = server.root();
    let output = server
        .command([
            "check-config".as_ref(),
            "--config".as_ref(),
            file.as_os_str(),
        ])
        .arg("--root")
        .arg(root)
        .args(["--limit", "19MB"])
        .env("ASHLAR_CACHE_SERVER_LIMIT", "18MB")
        .env("ASHLAR_CACHE_SERVER_READ_ONLY", "false")
        .run();
    output.success();
    let shown = output.stdout();
    for wanted in ["19MB", "40%", "false"] {
        assert!(shown.contains(wanted), "{wanted}: {output}");
    }
    for unwanted in ["17MB", "18MB"] {
        assert!(!shown.contains(unwanted), "{unwanted}: {output}");
    }
}

#[test]
fn a_server_that_others_reach_wants_tokens() {
    let server = CacheServer::prepare();
    let output = server
        .command(["serve", "--root"])
        .arg(server.root())
        .args(["--listen", &format!("0.0.0.0:{}", free_port())])
        .timeout(Duration::from_secs(20))
        .run();
    assert_ne!(output.code(), Some(0), "{output}");
    output.stderr_has("token");
}

/// A server that lets only those write who have [`TOKEN`].
fn with_token() -> CacheServer {
    let server = CacheServer::prepare();
    let file = server.file("tokens", format!("# of the tests\n{TOKEN}\n"));
    server
        .with(["--write-token-file".as_ref(), file.as_os_str()])
        .started()
}

/// What `--cache` gets, for a user with some token.
fn with_token_file(machine: &mut Machine, server: &CacheServer, token: &str) {
    let file = machine.home.path("token");
    machine.home.file(&file, format!("{token}\n"));
    machine.cache[1] = format!("{},token-file={}", server.url(), file.display());
}

#[test]
fn whoever_has_the_token_writes_and_everybody_reads() {
    let server = with_token();
    // Nothing is written without it.
    let output = Machine::first(&server.url()).output(&[]);
    one_warning(&output, "127.0.0.1");
    let second = Machine::second(&format!("{},mode=read", server.url()));
    no_warning(&second.output(&[]))
        .progress()
        .assert_ran(&EVERYTHING);

    let mut writer = Machine::first(&server.url());
    with_token_file(&mut writer, &server, TOKEN);
    no_warning(&writer.output(&[]));
    let reader = Machine::second(&format!("{},mode=read", server.url()));
    no_warning(&reader.output(&[])).progress().assert_ran(&[]);
    // A token is nobody else's business.
    assert!(!server.log().contains(TOKEN), "{}", server.log());
}

#[test]
fn a_wrong_token_is_refused_and_the_build_goes_on() {
    let server = with_token();
    let mut machine = Machine::first(&server.url());
    with_token_file(&mut machine, &server, "a-token-that-is-not-the-one");
    let output = machine.output(&[]);
    one_warning(&output, "127.0.0.1");
    output.progress().assert_ran(&EVERYTHING);
    assert!(!output.stderr().contains("a-token-that"), "{output}");
}

#[test]
fn a_server_may_want_a_token_of_readers_too() {
    let server = CacheServer::prepare();
    let tokens = server.file("tokens", format!("{TOKEN}\n"));
    let readers = server.file("readers", "a-token-of-those-who-read\n");
    let server = server
        .with(["--write-token-file".as_ref(), tokens.as_os_str()])
        .with(["--read-token-file".as_ref(), readers.as_os_str()])
        .started();
    let mut writer = Machine::first(&server.url());
    with_token_file(&mut writer, &server, TOKEN);
    no_warning(&writer.output(&[]));
    let mut reader = Machine::second(&server.url());
    with_token_file(&mut reader, &server, "a-token-of-those-who-read");
    reader.build(&[]).assert_ran(&[]);
    let output = Machine::second(&server.url()).output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "127.0.0.1");
}

#[test]
fn tls_is_for_those_who_trust_the_authority() {
    let authority = Authority::new();
    let server = CacheServer::prepare();
    let (certificate, key) = authority.server();
    let certificate = server.file("server.crt", fs::read(certificate).unwrap());
    let key = server.file("server.key", fs::read(key).unwrap());
    let server = server
        .with(["--tls-cert".as_ref(), certificate.as_os_str()])
        .with(["--tls-key".as_ref(), key.as_os_str()])
        .secure()
        .started();
    let trusting = |mut machine: Machine| {
        let file = machine.home.path("ca.pem");
        machine.home.file(&file, authority.certificate());
        machine.cache[1] = format!("{},ca={}", server.url(), file.display());
        machine
    };
    let output = trusting(Machine::first(&server.url())).output(&[]);
    no_warning(&output).progress().assert_ran(&EVERYTHING);
    let output = trusting(Machine::second(&server.url())).output(&[]);
    no_warning(&output).progress().assert_ran(&[]);

    let output = Machine::second(&server.url()).output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "certificate");
}

#[test]
fn a_server_that_is_read_only_takes_nothing() {
    let mut server = CacheServer::start();
    Machine::first(&server.url()).build(&[]);
    server.terminate().success();
    let mut server = server.with(["--read-only"]);
    server.launch();
    let second = Machine::second(&server.url());
    no_warning(&second.output(&[])).progress().assert_ran(&[]);
    let third = Machine::second(&server.url());
    third.context.file("small", "SMALL\n");
    let output = third.output(&[]);
    output
        .progress()
        .assert_ran(&["COPY small", "RUN cat /small"]);
    let fourth = Machine::second(&server.url());
    fourth.context.file("small", "SMALL\n");
    fourth
        .build(&[])
        .assert_ran(&["COPY small", "RUN cat /small"]);
}

/// The value of a metric, summed over its labels.
fn metric(text: &str, name: &str) -> f64 {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (metric, value) = line.rsplit_once(' ')?;
            let own = metric.split('{').next()?;
            (own == name).then(|| value.parse::<f64>().ok())?
        })
        .sum()
}

#[test]
fn it_says_how_it_is() {
    let server = CacheServer::start();
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    Machine::first(&server.url()).build(&[]);
    Machine::second(&server.url()).build(&[]).assert_ran(&[]);
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    let values: Vec<f64> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(values.len() > 10, "{text}");
    assert!(
        metric(&text, "ashlar_cache_store_bytes") > 10_000_000.0,
        "{text}"
    );
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("ashlar_cache_"), "{line}");
    }
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut server = CacheServer::start();
    Machine::first(&server.url()).build(&[]);
    let output = server.terminate();
    output.success();
    // Nobody was there to wait for.
    server.launch_elsewhere();
    let second = Machine::second(&server.url());
    second.build(&[]).assert_ran(&[]);
}

#[test]
fn what_was_begun_is_finished_before_it_ends() {
    let mut server = CacheServer::start();
    let wire = Wire::before(server.port());
    wire.always(Trouble::Delay(Duration::from_millis(15)));
    let machine = Machine::first(&wire.url());
    let mut running = machine.command(&["-t", "made"]).start();
    running.wait_until("bytes to be on their way", |_| wire.passed().up > 2_000_000);
    let output = server.terminate();
    output.success();
    running.wait().success();
    // What it has is whole.
    server.launch_elsewhere();
    wire.lead_to(server.port());
    wire.calm();
    let second = Machine::second(&wire.url());
    no_warning(&second.output(&[]));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = CacheServer::start();
    let wire = Wire::before(server.port());
    let machine = Machine::first(&wire.url());
    let mut running = machine.command(&["-t", "made"]).start();
    running.wait_until("bytes to be on their way", |_| wire.passed().up > 1_000_000);
    wire.always(Trouble::Stall(ashlar_test_support::wire::Direction::Up, 0));
    server.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    let asked = std::time::Instant::now();
    drop(server.terminate());
    assert!(asked.elapsed() < Duration::from_secs(5));
    running.wait().success();
}

#[test]
fn one_directory_has_one_server() {
    let server = CacheServer::start();
    let output = server
        .command(["serve", "--root"])
        .arg(server.root())
        .args(["--listen", &format!("127.0.0.1:{}", free_port())])
        .timeout(Duration::from_secs(20))
        .run();
    assert_ne!(output.code(), Some(0), "{output}");
    output.one_error();
}

#[test]
fn fsck_finds_damage_and_takes_it_away() {
    let mut server = CacheServer::start();
    Machine::first(&server.url()).build(&[]);
    server.terminate().success();
    let root = server.root();
    let fsck = |options: &[&str]| {
        server
            .command(["fsck".as_ref(), "--root".as_ref(), root.as_os_str()])
            .args(options)
            .run()
    };
    fsck(&[]).success();
    let files = super::trouble::large_files(&server);
    let file = &files[files.len() / 2];
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    fsck(&[]).exit_code(1);
    fsck(&["--repair"]).success();
    fsck(&[]).success();
    // What is left is served, and what is gone is made again.
    server.launch_elsewhere();
    let second = Machine::new(TestUser::Other, "other", &[&server.url()]);
    branches(&second.context);
    no_warning(&second.output(&[]));
    let third = Machine::second(&server.url());
    third.build(&[]).assert_ran(&[]);
}
