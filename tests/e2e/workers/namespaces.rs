//! Teams that share a server and do not trust each other.

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::farm::CONFIGURATION;
use ashlar_test_support::farm::member::with_files;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::worker::Worker;

use super::{Client, Site, nothing_sleeps};

/// Two teams, workers of each, and such as work for both.
const SETTINGS: &str = r#"
[[rule]]
token_file = "{dir}/clients-of-acme"
grants = [{ namespace = "acme", rights = ["read", "queue"] }]

[[rule]]
token_file = "{dir}/clients-of-zeta"
grants = [{ namespace = "zeta", rights = ["read", "queue"] }]

[[rule]]
token_file = "{dir}/workers-of-acme"
grants = [{ namespace = "acme", rights = ["work"] }]

[[rule]]
token_file = "{dir}/workers-of-both"
grants = [
    { namespace = "acme", rights = ["work"] },
    { namespace = "zeta", rights = ["work"] },
]

# Pull requests read through to what they are for.
[[namespace]]
name = "*/pr/*"
reads = ["{1}"]
"#;

const TOKENS: [&str; 4] = [
    "clients-of-acme",
    "clients-of-zeta",
    "workers-of-acme",
    "workers-of-both",
];

/// A token, which is its file's name and a little more.
fn token(name: &str) -> String {
    format!("{name}-0123456789")
}

fn site() -> Site {
    let tokens = TOKENS.map(|name| (name.to_owned(), token(name)));
    let mut files = tokens.to_vec();
    files.push((CONFIGURATION.to_owned(), SETTINGS.to_owned()));
    let server = with_files(CacheServer::prepare(), &files).for_workers();
    Site {
        workers: Vec::new(),
        server: server.started(),
        network: None,
    }
}

fn worker(site: &Site, name: &str) -> Worker {
    let worker = Worker::prepare(&site.server.workers_url());
    let file = worker.file("token", token(name));
    worker
        .with(["--token-file".into(), file.into_os_string()])
        .started()
}

fn client(site: &Site, team: &str) -> Client {
    let mut client = Client::of(TestUser::One, &site.server.url());
    let own = token(&format!("clients-of-{team}"));
    client.home.file(&client.home.path("token"), own);
    client.url = format!("{},instance={team}", client.url);
    client
}

fn dockerfile(client: &Client, rest: &str) {
    let busybox = bases::busybox().reference();
    client
        .context
        .dockerfile(&format!("FROM {busybox}\n{rest}\n"));
}

/// What a worker has begun, by namespaces.
fn begun(worker: &Worker, team: &str) -> usize {
    let log = worker.log();
    let lines = log.lines().filter(|line| line.contains("begun"));
    lines
        .filter(|line| line.contains(&format!("instance=\"{team}\"")))
        .count()
}

#[test]
fn a_worker_runs_the_work_of_its_namespaces_only() {
    let mut site = site();
    site.workers.push(worker(&site, "workers-of-acme"));
    let zeta = client(&site, "zeta");
    dockerfile(&zeta, "RUN echo for zeta > /out");
    let mut build = zeta.build(&[]).start();
    build.wait_for_stderr("the farm has no worker for");
    // It is there for others.
    let acme = client(&site, "acme");
    dockerfile(&acme, "RUN echo for acme > /out");
    acme.build(&[]).run().success();
    assert!(build.is_running());
    site.workers.push(worker(&site, "workers-of-both"));
    build.wait().success();
    let [of_acme, of_both] = &site.workers[..] else {
        panic!("there are two workers");
    };
    assert_eq!((begun(of_acme, "acme"), begun(of_acme, "zeta")), (1, 0));
    assert_eq!((begun(of_both, "acme"), begun(of_both, "zeta")), (0, 1));
    site.end();
}

#[test]
fn a_worker_of_two_namespaces_keeps_them_apart() {
    let mut site = site();
    site.workers.push(worker(&site, "workers-of-both"));
    let mount = "RUN --mount=type=cache,id=shared,target=/c";
    let first = format!("{mount} test ! -e /c/mark && touch /c/mark && echo nobody was here");
    for team in ["acme", "zeta"] {
        let client = client(&site, team);
        dockerfile(&client, &first);
        let output = client.build(&[]).run();
        output.success();
        // Neither the other's cache mount nor its results are there.
        let progress = output.progress();
        assert!(progress.has_output("nobody was here"), "{output}");
    }
    // Its own are.
    for team in ["acme", "zeta"] {
        let client = client(&site, team);
        dockerfile(&client, &format!("{first}\n{mount} ls /c"));
        let output = client.build(&[]).run();
        output.success();
        let progress = output.progress();
        assert!(progress.has_output("mark"), "{output}");
        assert!(!progress.has_output("nobody was here"), "{output}");
    }
    let worker = &site.workers[0];
    assert_eq!((begun(worker, "acme"), begun(worker, "zeta")), (2, 2));
    let stores = std::fs::read_dir(worker.root()).unwrap();
    let stores = stores.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stores: Vec<String> = stores.collect();
    for team in ["acme-", "zeta-"] {
        let own = stores.iter().filter(|name| name.starts_with(team));
        assert_eq!(own.count(), 1, "{stores:?}");
    }
    site.end();
}

#[test]
fn nobody_sees_or_ends_builds_of_another_namespace() {
    let mut site = site();
    site.workers.push(worker(&site, "workers-of-both"));
    let acme = client(&site, "acme");
    dockerfile(&acme, "RUN echo of acme; sleep 5000");
    let context = acme.context.path().display().to_string();
    let build = acme.farm(&["submit", &context]).text();
    let mut logs = acme.farm(&["logs", "-f", &build]).start();
    logs.wait_until("the step's output", |logs| {
        format!("{}{}", logs.stdout(), logs.stderr()).contains("of acme")
    });

    let zeta = client(&site, "zeta");
    let listed = zeta.farm(&["builds"]).text();
    assert!(!listed.contains(&build), "{listed}");
    // Neither by its id, nor by its whole name, nor in the other's namespace.
    let mut elsewhere = client(&site, "zeta");
    elsewhere.url = elsewhere.url.replace("instance=zeta", "instance=acme");
    let whole = format!("acme/operations/{build}");
    for (who, id) in [(&zeta, &build), (&zeta, &whole), (&elsewhere, &build)] {
        for command in ["logs", "wait", "cancel"] {
            let output = who.farm(&[command, id]).run();
            assert_ne!(output.code(), Some(0), "{output}");
            output.one_error();
            let said = format!("{}{}", output.stdout(), output.stderr());
            assert!(!said.contains("of acme"), "{output}");
        }
    }
    let output = elsewhere.farm(&["builds"]).run();
    assert_ne!(output.code(), Some(0), "{output}");
    output.one_error();
    output.stderr_has("in `acme`");

    // All that was nothing to the build.
    let listed = acme.farm(&["builds"]).text();
    assert!(listed.contains(&build), "{listed}");
    assert!(logs.is_running());
    acme.farm(&["cancel", &build]).run().success();
    let waited = acme.farm(&["wait", &build]).run();
    assert_ne!(waited.code(), Some(0), "{waited}");
    drop(logs);
    nothing_sleeps("5000");
    site.end();
}

#[test]
fn a_pull_request_stands_on_main_and_leaves_nothing_there() {
    let mut site = site();
    site.workers.push(worker(&site, "workers-of-both"));
    let main = client(&site, "acme");
    dockerfile(&main, "RUN echo of main > /main");
    main.build(&[]).run().success();

    let mut request = client(&site, "acme");
    request.url = request.url.replace("instance=acme", "instance=acme/pr/17");
    dockerfile(
        &request,
        "RUN echo of main > /main\nRUN echo of 17 > /changed",
    );
    let output = request.build(&[]).run();
    output.success();
    output.progress().assert_ran(&["RUN echo of 17"]);

    let after = client(&site, "acme");
    dockerfile(
        &after,
        "RUN echo of main > /main\nRUN echo of 17 > /changed",
    );
    let output = after.build(&[]).run();
    output.success();
    output.progress().assert_ran(&["RUN echo of 17"]);
    site.end();
}
