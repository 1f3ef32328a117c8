//! Which worker runs what.

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::wire::Wire;
use ashlar_test_support::worker::Worker;

use super::barrier::Barrier;
use super::{Client, Site, local_digest, local_digest_with, noise};

/// Four stages that know nothing of each other, and one that takes from all.
pub(super) fn stages(context: &Context, commands: &[String]) {
    let busybox = bases::busybox().reference();
    let mut text = String::new();
    for (number, command) in commands.iter().enumerate() {
        text.push_str(&format!("FROM {busybox} AS s{number}\nRUN {command}\n"));
    }
    text.push_str(&format!("FROM {busybox}\n"));
    for number in 0..commands.len() {
        text.push_str(&format!("COPY --from=s{number} /out /out{number}\n"));
    }
    context.dockerfile(&text);
}

#[test]
fn four_stages_run_on_three_workers_at_once() {
    let site = Site::spread(3, &["--slots", "2"]);
    let address = site.network.as_ref().unwrap().address();
    let barrier = Barrier::at(&address, 0, 4);
    let port = barrier.port();
    let command = |number: usize| {
        format!("test \"$(nc {address} {port} </dev/null)\" = go && echo {number} > /out")
    };
    let commands: Vec<String> = (0..4).map(command).collect();
    let client = site.client();
    stages(&client.context, &commands);
    let (digest, output) = client.image(&[]);
    let from = barrier.came_from();
    assert_eq!(from.len(), 3, "stages ran on {from:?}\n{output}");
    let barrier = Barrier::at(&address, port, 4);
    let local = local_digest_with(&["--jobs", "4"], |context| stages(context, &commands));
    assert_eq!(digest, local, "{output}");
    assert_eq!(barrier.came_from().len(), 1);
    site.end();
}

/// Ten steps, each of which reads and writes much of what the one before has left.
fn chain(context: &Context) {
    let busybox = bases::busybox().reference();
    let mut text = format!("FROM {busybox}\nCOPY seed /0\n");
    for number in 1..=10 {
        let before = number - 1;
        text.push_str(&format!(
            "RUN cat /{before} > /{number}; echo {number} >> /{number}\n"
        ));
    }
    context.dockerfile(&text).file("seed", noise(11, 2_000_000));
}

#[test]
fn a_chain_stays_with_one_worker_and_moves_no_layer() {
    let site = Site::spread(3, &["--slots", "2"]);
    let client = site.client();
    chain(&client.context);
    let (digest, output) = client.image(&[]);
    assert_eq!(digest, local_digest(chain), "{output}");
    let ran: Vec<bool> = site
        .workers
        .iter()
        .map(|worker| {
            let machine = worker.machine().unwrap();
            let (sent, received) = machine.bytes();
            // The base and the context came; none of the ten layers did.
            assert!(
                received < 5_000_000,
                "{sent} sent, {received} received\n{output}"
            );
            // Ten layers of 2 MB of which each is the one before and a line.
            sent > 1_500_000
        })
        .collect();
    let workers = ran.iter().filter(|ran| **ran).count();
    assert_eq!(workers, 1, "{ran:?}\n{output}");
    site.end();
}

#[test]
fn work_goes_where_its_layers_are() {
    let site = Site::spread(3, &["--slots", "2"]);
    let client = site.client();
    let busybox = bases::busybox().reference();
    let text = format!("FROM {busybox}\nCOPY big /big\nRUN sha256sum /big > /sum\n");
    client
        .context
        .dockerfile(&text)
        .file("big", noise(12, 20_000_000));
    let (_, output) = client.image(&[]);
    output.success();
    let received = |site: &Site| {
        let bytes = |worker: &Worker| worker.machine().unwrap().bytes().1;
        site.workers.iter().map(bytes).collect::<Vec<u64>>()
    };
    let before = received(&site);
    let more = "RUN sha512sum /big > /more\n";
    client.context.dockerfile(&(text + more));
    let (_, output) = client.image(&[]);
    for (before, after) in before.iter().zip(received(&site)) {
        assert!(after - before < 2_000_000, "{before} {after}\n{output}");
    }
    site.end();
}

#[test]
fn only_what_the_farm_lacks_of_a_context_is_sent() {
    let site = Site::local(1);
    let wire = Wire::before(site.server.port());
    let client = Client::new(&wire.url());
    let busybox = bases::busybox().reference();
    client.context.dockerfile(&format!(
        "FROM {busybox}\nCOPY files /files\nRUN ls /files | wc -l\n"
    ));
    for number in 0..2_000 {
        client
            .context
            .file(&format!("files/{number}"), noise(number, 2_000));
    }
    let (_, output) = client.image(&[]);
    output.success();
    let first = wire.passed();
    assert!(first.up > 3_500_000, "{first:?}");
    client.context.file("files/777", noise(9_999_999, 2_000));
    let (_, output) = client.image(&[]);
    let second = wire.passed();
    // One bundle, and what is said about all of them.
    assert!(
        second.up - first.up < 700_000,
        "{first:?} {second:?}\n{output}"
    );
    site.end();
}
