//! Workers are killed and frozen, cables are pulled, the server is started again, and clients leave
//! and come back, while they build. All of it follows from a seed.
//!
//! - Every build that is let go on ends in a time that is bounded, with the image that is built on
//!   one machine.
//! - When all is calm again every worker is ready by itself, and a build runs nothing.
//!
//! Once with one server, and once with two over Redis and S3. `make remote-faults RUNS=300` runs many
//! seeds; a failure tells how to run its seed again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::Running;
use ashlar_test_support::context::Context;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::redis::server::RedisServer;
use ashlar_test_support::seeds::Seeds;
use ashlar_test_support::worker::Worker;
use rustix::process::Signal;

use super::servers::Servers;
use super::{Client, Site, local_digest, noise};

/// Seeds that every run of the tests runs.
const SEEDS: u64 = 2;

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
    fn start(farm: &impl Farm, image: u64) -> Self {
        let client = farm.client();
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

    fn end(self, troubles: &str) {
        let Self {
            client,
            image,
            running,
        } = self;
        let output = running.wait();
        assert_eq!(output.code(), Some(0), "{troubles}: {output}");
        assert_eq!(client.digest(), right_digest(image), "{troubles}: {output}");
    }
}

/// What something can happen to.
struct Parts<'a> {
    workers: &'a mut [Worker],
    servers: &'a mut [CacheServer],
    redis: Option<&'a mut RedisServer>,
}

trait Farm {
    fn parts(&mut self) -> Parts<'_>;
    fn client(&self) -> Client;
    fn end(self);
}

impl Farm for Site {
    fn parts(&mut self) -> Parts<'_> {
        Parts {
            workers: &mut self.workers,
            servers: std::slice::from_mut(&mut self.server),
            redis: None,
        }
    }

    fn client(&self) -> Client {
        self.client()
    }

    fn end(self) {
        self.end();
    }
}

impl Farm for Servers {
    fn parts(&mut self) -> Parts<'_> {
        Parts {
            workers: &mut self.workers,
            servers: &mut self.servers,
            redis: Some(&mut self.redis),
        }
    }

    fn client(&self) -> Client {
        self.client()
    }

    fn end(self) {
        self.end();
    }
}

/// Does something to somebody, and undoes it after a while.
fn disturb(parts: Parts<'_>, numbers: &mut Numbers) -> String {
    let Parts {
        workers,
        servers,
        redis,
    } = parts;
    let worker = numbers.place(workers.len());
    let server = numbers.place(servers.len());
    // Up to twice as long as a worker is believed.
    let pause = Duration::from_millis(numbers.below(4_000));
    // With Redis behind them, twice as often something of the servers' side.
    let kinds = if redis.is_some() { 10 } else { 6 };
    let (what, pause) = match (numbers.below(kinds), redis) {
        (0, _) => {
            let pause = pause / 4;
            workers[worker].kill();
            thread::sleep(pause);
            workers[worker].launch_lost();
            (format!("worker {worker} was killed"), pause)
        }
        (1, _) => {
            workers[worker].freeze();
            thread::sleep(pause);
            workers[worker].thaw();
            (format!("worker {worker} was frozen"), pause)
        }
        (2, _) => {
            let machine = workers[worker].machine().expect("it has a machine");
            machine.cut();
            thread::sleep(pause);
            machine.mend();
            (format!("the cable of worker {worker} was pulled"), pause)
        }
        (3 | 6, _) => {
            let pause = pause / if servers.len() > 1 { 1 } else { 8 };
            servers[server].kill();
            thread::sleep(pause);
            servers[server].launch();
            (format!("server {server} was killed"), pause)
        }
        (4, _) => {
            let pause = pause / if servers.len() > 1 { 1 } else { 2 };
            servers[server].freeze();
            thread::sleep(pause);
            servers[server].thaw();
            (format!("server {server} was frozen"), pause)
        }
        (7, Some(_)) => {
            let machine = servers[server].machine().expect("it has a machine");
            machine.cut();
            thread::sleep(pause);
            machine.mend();
            (format!("the cable of server {server} was pulled"), pause)
        }
        (8, Some(redis)) => {
            let pause = pause / 2;
            redis.kill();
            thread::sleep(pause);
            redis.restart();
            ("Redis was killed".to_owned(), pause)
        }
        (9, Some(redis)) => {
            let pause = pause / 2;
            redis.stop();
            thread::sleep(pause);
            redis.cont();
            ("Redis was frozen".to_owned(), pause)
        }
        _ => {
            workers[worker].terminate().success();
            workers[worker].launch_lost();
            (format!("worker {worker} was told to stop"), Duration::ZERO)
        }
    };
    format!("{what} for {} ms", pause.as_millis())
}

fn one_seed(mut farm: impl Farm, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let mut building: Vec<Building> = Vec::new();
    let mut done = Vec::new();
    for round in 0..TROUBLES.max(CLIENTS) {
        if round < CLIENTS {
            building.push(Building::start(&farm, numbers.below(IMAGES)));
        }
        thread::sleep(Duration::from_millis(numbers.below(700)));
        if round < TROUBLES {
            done.push(disturb(farm.parts(), &mut numbers));
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
        one.end(&troubles);
    }
    for worker in farm.parts().workers {
        worker.wait_until_ready();
    }
    for image in 0..IMAGES {
        // What nobody has built yet is built now; then there is nothing to do.
        Building::start(&farm, image).end(&troubles);
        let client = farm.client();
        context(&client.context, image);
        let (digest, output) = client.image(&[]);
        assert_eq!(digest, right_digest(image), "{troubles}: {output}");
        output.progress().assert_ran(&[]);
    }
    farm.end();
}

/// Arguments of the workers.
const OF_WORKERS: [&str; 2] = ["--grace", "1s"];

#[test]
fn whatever_happens_to_workers_images_are_right() {
    let test = "workers::faults::whatever_happens_to_workers";
    Seeds::asked_or(SEEDS).run(AT_ONCE, test, |seed| {
        let of_workers = [&["--slots", "2"], &OF_WORKERS[..]].concat();
        let lease = ["--worker-lease", LEASE];
        one_seed(Site::spread_with(WORKERS, &lease, &of_workers), seed);
    });
}

#[test]
fn whatever_happens_to_two_servers_images_are_right() {
    let test = "workers::faults::whatever_happens_to_two_servers";
    Seeds::asked_or(SEEDS).run(AT_ONCE, test, |seed| {
        if let Some(farm) = Servers::start_with(test, WORKERS, LEASE, &OF_WORKERS) {
            one_seed(farm, seed);
        }
    });
}
