//! Registries that want a login, which only the client has.

use ashlar_test_support::bases;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::registry::{Access, Fault, PASSWORD, Proxy, Registry, USER};

use super::Site;
use super::secrets::holding;
use crate::registry::login;

/// User and password as headers have them.
const BASIC: &str = "YXNobGFyOnN0b25lLWN1dHRlcg==";

/// Has the client know a password for a registry, as `docker login` does.
fn log_in(home: &TestHome, host: &str, password: &str) {
    let file = home.home().join(".docker/config.json");
    home.file(&file, login(host, password));
}

/// Puts a base image into a registry.
fn push_base(host: &str) {
    TestCommand::root("skopeo")
        .args(["copy", "--dest-tls-verify=false"])
        .args(["--dest-creds", &format!("{USER}:{PASSWORD}")])
        .arg(bases::busybox().foreign_reference())
        .arg(format!("docker://{host}/base:1"))
        .run()
        .success();
}

fn on_private_base(context: &Context, host: &str) {
    context.dockerfile(&format!(
        "FROM {host}/base:1\nRUN echo made on a private base > /made\n"
    ));
}

/// Asserts that a registry has an image for those who log in.
fn assert_pushed(host: &str, name: &str) {
    let inspect = TestCommand::root("skopeo")
        .args(["inspect", "--tls-verify=false"])
        .args(["--creds", &format!("{USER}:{PASSWORD}")])
        .arg(format!("docker://{host}/{name}"));
    inspect.run().success();
}

/// Pulls from and pushes to a host, by a worker with the client's login; nobody keeps that.
fn by_worker(host: &str) {
    let site = Site::local(1);
    push_base(host);
    let stranger = site.client();
    on_private_base(&stranger.context, host);
    let output = stranger.build(&[]).run();
    assert_ne!(output.code(), Some(0), "{output}");
    assert!(output.one_error().contains(host), "{output}");

    let client = site.client();
    log_in(&client.home, host, PASSWORD);
    on_private_base(&client.context, host);
    let name = format!("{host}/private/app:1");
    let output = client.build(&["-t", &name, "--push"]).run();
    output.success();
    assert_pushed(host, "private/app:1");

    // So is a build that its client has left.
    let context = client.context.path().display().to_string();
    let name = format!("{host}/private/app:2");
    let submit = ["submit", "--no-cache", "-t", &name, "--push", &context];
    let id = client.farm(&submit).text();
    let waited = client.farm(&["wait", &id]).run();
    waited.success();
    assert_pushed(host, "private/app:2");

    let logged = client.farm(&["logs", &id]).run();
    let logs = [site.server.log(), site.workers[0].log()];
    let said = [output, waited, logged];
    let said = said.iter().map(ToString::to_string);
    for text in said.chain(logs) {
        for secret in [PASSWORD, BASIC] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let root = site.workers[0].root();
    for place in [site.server.root(), root.parent().unwrap().to_owned()] {
        for secret in [PASSWORD, BASIC] {
            assert_eq!(holding(&place, secret.as_bytes()), Vec::<String>::new());
        }
    }
    site.end();
}

#[test]
fn a_worker_pulls_and_pushes_with_the_clients_password() {
    let registry = Registry::start_with(Access::Password);
    by_worker(&registry.host());
}

#[test]
fn a_worker_fetches_tokens_for_the_clients_password() {
    let registry = Registry::start();
    let proxy = Proxy::before(registry.port(), Fault::Token);
    by_worker(&proxy.host());
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let registry = Registry::start_with(Access::Password);
    let host = registry.host();
    let site = Site::local(1);
    let client = site.client();
    super::simple(&client.context);
    log_in(&client.home, &host, "a-wrong-password");
    let name = format!("{host}/private/app:1");
    let output = client.build(&["-t", &name, "--push"]).run();
    assert_ne!(output.code(), Some(0), "{output}");
    assert!(output.one_error().contains(&host), "{output}");
    let logs = [site.server.log(), site.workers[0].log()];
    for text in logs.into_iter().chain([output.to_string()]) {
        assert!(!text.contains("a-wrong-password"), "{text}");
    }
    site.end();
}
