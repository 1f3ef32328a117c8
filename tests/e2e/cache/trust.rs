//! Whom a build believes, and who it says it is: signed results, client certificates, several
//! servers as one cache.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::environment;
use ashlar_test_support::registry::{Authority, free_port};

use super::{EVERYTHING, Machine, no_warning, one_warning};

/// A key pair of a machine: `ci.pem` and `ci.pem.pub`.
fn keygen(machine: &Machine) -> PathBuf {
    let path = machine.home.path("ci.pem");
    let output = machine.home.ashlar(["cache", "keygen", "--name", "ci"]);
    let output = output.arg(&path).run();
    output.success();
    let id = output.stdout();
    assert!(
        id.len() == 65 && id.trim().chars().all(|c| c.is_ascii_hexdigit()),
        "{output}"
    );
    path
}

/// Signs with a key, and demands its signature.
fn signing(machine: &mut Machine, key: &Path) {
    machine.cache.extend([
        "--cache-sign".to_owned(),
        key.display().to_string(),
        "--cache-trust".to_owned(),
        format!("signed={}.pub", key.display()),
    ]);
}

/// Demands signatures of another machine's key.
fn trusting(machine: &mut Machine, key: &Path, more: &str) {
    let public = fs::read(format!("{}.pub", key.display())).unwrap();
    let copy = machine.home.path("trusted.pub");
    machine.home.file(&copy, public);
    machine.cache.extend([
        "--cache-trust".to_owned(),
        format!("signed={}{more}", copy.display()),
    ]);
}

#[test]
fn keys_are_for_their_owner_and_never_overwritten() {
    let machine = Machine::first("none");
    let path = keygen(&machine);
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let name = path.display().to_string();
    assert_eq!(mode(&name), 0o600);
    let before = fs::read(&path).unwrap();
    let again = machine.home.ashlar(["cache", "keygen"]).arg(&path).run();
    again.exit_code(3);
    assert_eq!(fs::read(&path).unwrap(), before);
    // Other tools read them.
    let openssl = TestCommand::root("openssl").args(["pkey", "-noout", "-in", &name]);
    openssl.run().success();
    let public = format!("{name}.pub");
    let openssl = TestCommand::root("openssl").args(["pkey", "-pubin", "-noout", "-in", &public]);
    openssl.run().success();
}

#[test]
fn signed_results_are_taken_and_others_are_passed_over() {
    let server = CacheServer::start();
    // Somebody with a stolen token writes first, without a key.
    no_warning(&Machine::first(&server.url()).output(&[]));

    let mut builder = Machine::first(&server.url());
    let key = keygen(&builder);
    signing(&mut builder, &key);
    let output = builder.output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "not signed");

    // The builder's own results took the place of the forged ones.
    let mut reader = Machine::second(&server.url());
    trusting(&mut reader, &key, "");
    no_warning(&reader.output(&[])).progress().assert_ran(&[]);

    // Another key is none.
    let mut stranger = Machine::second(&server.url());
    let other = keygen(&stranger);
    stranger.cache.extend([
        "--cache-trust".to_owned(),
        format!("signed={}.pub", other.display()),
    ]);
    let output = stranger.output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "signed by no key that is known");

    // Who demands nothing takes all.
    let anybody = Machine::second(&server.url());
    no_warning(&anybody.output(&[])).progress().assert_ran(&[]);
}

#[test]
fn what_was_taken_over_without_proof_is_not_used_by_who_demands_it() {
    let server = CacheServer::start();
    Machine::first(&server.url()).build(&[]);
    let mut machine = Machine::second(&server.url());
    machine.build(&[]).assert_ran(&[]);
    let key = keygen(&machine);
    signing(&mut machine, &key);
    let output = machine.output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    // Its own results are its own.
    no_warning(&machine.output(&[])).progress().assert_ran(&[]);
}

#[test]
fn a_signature_is_for_one_instance_unless_the_policy_names_it() {
    let server = CacheServer::start();
    let main = format!("{},instance=org/main", server.url());
    let mut builder = Machine::first(&main);
    let key = keygen(&builder);
    signing(&mut builder, &key);
    builder.build(&[]);

    for (more, taken) in [
        ("", true),
        (",instance=org/*", true),
        (",signer=ci", true),
        (",signer=else", false),
    ] {
        let mut reader = Machine::second(&main);
        trusting(&mut reader, &key, more);
        let output = reader.output(&[]);
        if taken {
            no_warning(&output).progress().assert_ran(&[]);
        } else {
            output.progress().assert_ran(&EVERYTHING);
            one_warning(&output, "signed by another builder");
        }
    }
}

#[test]
fn portable_caches_are_signed_as_well() {
    let mut builder = Machine::first("none");
    let key = keygen(&builder);
    signing(&mut builder, &key);
    let directory = builder.home.path("cache");
    let to = format!("type=local,dest={}", directory.display());
    builder.build(&["--cache-to", &to]);
    let from = format!("type=local,src={}", directory.display());
    let elsewhere = |more: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::first("none");
        more(&mut machine);
        machine.output(&["--cache-from", &from])
    };
    let output = elsewhere(&|machine| trusting(machine, &key, ""));
    no_warning(&output).progress().assert_ran(&[]);
    let output = elsewhere(&|machine| {
        let other = keygen(machine);
        machine.cache.extend([
            "--cache-trust".to_owned(),
            format!("signed={}.pub", other.display()),
        ]);
    });
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "signed by no key that is known");
}

#[test]
fn a_key_may_come_from_the_environment_and_is_shown_nowhere() {
    let server = CacheServer::start();
    let builder = Machine::first(&server.url());
    let key = keygen(&builder);
    let text = fs::read_to_string(&key).unwrap();
    let output = builder
        .command(&["--cache-sign", "env=CI_KEY,name=ci"])
        .args(["--cache-trust", &format!("signed={}.pub", key.display())])
        .env("CI_KEY", &text)
        .run();
    output.success();
    no_warning(&output);
    let secret = text.lines().find(|line| line.starts_with("MC4")).unwrap();
    assert!(!output.stderr().contains(secret) && !server.log().contains(secret));
    let mut reader = Machine::second(&server.url());
    trusting(&mut reader, &key, ",signer=ci");
    no_warning(&reader.output(&[])).progress().assert_ran(&[]);
}

#[test]
fn a_server_that_is_gone_is_nothing_to_those_who_know_another() {
    let server = CacheServer::start();
    let live = server.url().replace("grpc://", "");
    let url = format!("grpc://127.0.0.1:{}+{live}", free_port());
    no_warning(&Machine::first(&url).output(&[]))
        .progress()
        .assert_ran(&EVERYTHING);
    no_warning(&Machine::second(&url).output(&[]))
        .progress()
        .assert_ran(&[]);
}

/// A certificate of a builder, and the authority that signed it, in a directory: `ca.crt`,
/// `builder.crt` and `builder.key`.
fn builder_certificate() -> tempfile::TempDir {
    let directory = environment::scratch_directory("client");
    let openssl = |arguments: &str| {
        TestCommand::root("openssl")
            .args(arguments.split(' '))
            .directory(directory.path())
            .run()
            .success();
    };
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "{key} -x509 -days 2 -subj /CN=Builders -keyout ca.key -out ca.crt"
    ));
    openssl(&format!(
        "{key} -subj /CN=builder-7.example -keyout builder.key -out builder.csr"
    ));
    let names = "subjectAltName=DNS:builder-7.example\nbasicConstraints=CA:FALSE\n";
    fs::write(directory.path().join("names"), names).unwrap();
    openssl(
        "x509 -req -in builder.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
         -extfile names -out builder.crt",
    );
    directory
}

#[test]
fn a_certificate_says_who_a_builder_is() {
    let (authority, builders) = (Authority::new(), builder_certificate());
    let server = CacheServer::prepare();
    let (certificate, key) = authority.server();
    let certificate = server.file("server.crt", fs::read(certificate).unwrap());
    let key = server.file("server.key", fs::read(key).unwrap());
    let clients = fs::read(builders.path().join("ca.crt")).unwrap();
    let clients = server.file("clients.crt", clients);
    let config = server.file(
        "config.toml",
        "[[rule]]\ncertificate = \"builder-{n}.example\"\n\
         grants = [{ namespace = \"acme\", rights = [\"read\", \"write\", \"lease\"] }]\n",
    );
    let server = server
        .with(["--config".as_ref(), config.as_os_str()])
        .with(["--tls-cert".as_ref(), certificate.as_os_str()])
        .with(["--tls-key".as_ref(), key.as_os_str()])
        .with(["--tls-client-ca".as_ref(), clients.as_os_str()])
        .secure()
        .started();
    let url = format!("{},instance=acme", server.url());
    let with = |mut machine: Machine, shown: bool| {
        let file = |name: &str, content: Vec<u8>| {
            let path = machine.home.path(name);
            machine.home.file(&path, content);
            path.display().to_string()
        };
        let ca = file("ca.pem", authority.certificate());
        let mut cache = format!("{url},ca={ca}");
        if shown {
            for (option, name) in [("cert", "builder.crt"), ("key", "builder.key")] {
                let path = file(name, fs::read(builders.path().join(name)).unwrap());
                cache.push_str(&format!(",{option}={path}"));
            }
        }
        machine.cache[1] = cache;
        machine
    };
    no_warning(&with(Machine::first(&url), true).output(&[]))
        .progress()
        .assert_ran(&EVERYTHING);
    no_warning(&with(Machine::second(&url), true).output(&[]))
        .progress()
        .assert_ran(&[]);
    // Nobody else may so much as read.
    let output = with(Machine::second(&url), false).output(&[]);
    output.progress().assert_ran(&EVERYTHING);
    one_warning(&output, "it refuses to be read");
}
