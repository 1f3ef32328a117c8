//! Workers are killed and frozen, cables are pulled, the server is started again, and clients leave
//! and come back, while they build. All of it follows from a seed.
//!
//! - Every build that is let go on ends in a time that is bounded: with the image that is built on
//!   one machine, or with an error that says what of the farm failed, after which the next one does it.
//! - When all is calm again every worker is ready by itself, and a build runs nothing.
//!
//! `make remote-faults RUNS=300` runs many seeds; a failure tells how to run its seed again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::command::Running;
use ashlar_test_support::context::Context;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::seeds::Seeds;
use rustix::process::Signal;

use super::{Client, Site, local_digest, noise};

const TEST: &str = "workers::faults::whatever_happens_to_workers";

/// Seeds that every run of the tests runs.
const SEEDS: u64 = 4;

/// Seeds that run at once. They wait as much as they work.
const AT_ONCE: u64 = 2;

const WORKERS: usize = 3;
const CLIENTS: u64 = 5;
const IMAGES: u64 = 4;
const TROUBLES: u64 = 5;

/// How long workers are believed without a word.
const LEASE: &str = "2s";

/// How long a build may take, with all trouble.
const LIMIT: Duration = Duration::from_secs(100);

/// One of the images. They share their beginnings, and take some seconds.
fn context(context: &Context, image: u64) {
    let busybox = bases::busybox().reference();
    let rest = match image {
        0 => "RUN sleep 0.4; sha256sum /one > /two\nRUN sleep 0.3; cat /one /two > /three\n"
            .to_owned(),
        1 => format!(
            "FROM {busybox} AS left\nCOPY small /small\nRUN sleep 0.6; wc -c /small > /left\n\
             FROM {busybox} AS right\nRUN sleep 0.5; seq 1 20000 > /right\n\
             FROM start\nCOPY --from=left /left /left\nCOPY --from=right /right /right\n\
             RUN cat /left /right > /both\n"
        ),
        2 => {
            "COPY large /large\nRUN sleep 0.2; sha256sum /large > /sum\nRUN rm /large\n".to_owned()
        }
        _ => "WORKDIR /srv\nRUN seq 1 30000 > numbers; sleep 0.8\nCOPY small .\n".to_owned(),
    };
    let start =
        format!("FROM {busybox} AS start\nCOPY one /one\nRUN sleep 0.3; sha256sum /one > /zero\n");
    context
        .dockerfile(&(start + &rest))
        .file("one", noise(1, 60_000))
        .file("small", "small\n");
    if image == 2 {
        context.file("large", noise(3, 3_000_000));
    }
}

/// An image's digest as one machine builds it.
fn right_digest(image: u64) -> String {
    static KNOWN: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let digest = known
        .entry(image)
        .or_insert_with(|| local_digest(|place| context(place, image)));
    digest.clone()
}

/// A client that builds.
struct Building {
    client: Client,
    image: u64,
    running: Running,
}

impl Building {
    fn start(site: &Site, image: u64) -> Self {
        let client = site.client();
        context(&client.context, image);
        Self::again(client, image)
    }

    fn again(client: Client, image: u64) -> Self {
        let layout = client.layout_option();
        let running = client.build(&["-o", &layout]).timeout(LIMIT).start();
        Self {
            client,
            image,
            running,
        }
    }

    /// Its client is killed, and comes back.
    fn come_back(self) -> Self {
        self.running.signal(Signal::KILL);
        drop(self.running);
        Self::again(self.client, self.image)
    }

    fn end(self) {
        let Self {
            client,
            image,
            running,
        } = self;
        let output = running.wait();
        if output.code() == Some(0) {
            assert_eq!(client.digest(), right_digest(image), "{output}");
            return;
        }
        // A server that goes while layers are fetched may be too much for a build. Then it says so,
        // and the next one does it.
        output.exit_code(3);
        assert!(output.stderr().contains("error: the farm"), "{output}");
        let layout = client.layout_option();
        let again = client.build(&["-o", &layout]).timeout(LIMIT).run();
        again.success();
        assert_eq!(client.digest(), right_digest(image), "{again}");
    }
}

/// Does something to somebody, and undoes it after a while.
fn disturb(site: &mut Site, numbers: &mut Numbers) -> &'static str {
    let who = numbers.place(WORKERS);
    // Up to twice as long as a worker is believed.
    let pause = Duration::from_millis(numbers.below(4_000));
    match numbers.below(6) {
        0 => {
            site.workers[who].kill();
            thread::sleep(pause / 4);
            site.workers[who].launch_lost();
            "a worker was killed"
        }
        1 => {
            site.workers[who].freeze();
            thread::sleep(pause);
            site.workers[who].thaw();
            "a worker was frozen"
        }
        2 => {
            let machine = site.workers[who].machine().expect("it has a machine");
            machine.cut();
            thread::sleep(pause);
            machine.mend();
            "a cable was pulled"
        }
        3 => {
            site.server.kill();
            thread::sleep(pause / 8);
            site.server.launch();
            "the server was killed"
        }
        4 => {
            site.server.freeze();
            thread::sleep(pause / 2);
            site.server.thaw();
            "the server was frozen"
        }
        _ => {
            site.workers[who].terminate().success();
            site.workers[who].launch_lost();
            "a worker was told to stop"
        }
    }
}

fn one_seed(seed: u64) {
    let mut numbers = Numbers::new(seed);
    let mut site = Site::spread_with(
        WORKERS,
        &["--worker-lease", LEASE],
        &["--slots", "2", "--grace", "1s"],
    );
    let mut building: Vec<Building> = Vec::new();
    let mut done = Vec::new();
    for round in 0..TROUBLES.max(CLIENTS) {
        if round < CLIENTS {
            building.push(Building::start(&site, numbers.below(IMAGES)));
        }
        thread::sleep(Duration::from_millis(numbers.below(700)));
        if round < TROUBLES {
            done.push(disturb(&mut site, &mut numbers));
        }
        if numbers.below(4) == 0 && !building.is_empty() {
            let place = numbers.place(building.len());
            let back = building.swap_remove(place).come_back();
            building.push(back);
        }
    }
    let troubles = done.join(", ");
    assert_eq!(done.len() as u64, TROUBLES, "{troubles}");
    for one in building {
        one.end();
    }
    for worker in &mut site.workers {
        worker.wait_until_ready();
    }
    for image in 0..IMAGES {
        // What nobody has built yet is built now; then there is nothing to do.
        Building::start(&site, image).end();
        let client = site.client();
        context(&client.context, image);
        let (digest, output) = client.image(&[]);
        assert_eq!(digest, right_digest(image), "{troubles}: {output}");
        output.progress().assert_ran(&[]);
    }
    site.end();
}

#[test]
fn whatever_happens_to_workers_images_are_right() {
    Seeds::asked_or(SEEDS).run(AT_ONCE, TEST, one_seed);
}
