//! Builds of machines that share a server, while connections are delayed, cut, stalled and
//! changed, and the server is killed, frozen and started again. All of it follows from a seed.
//!
//! - Every image is the one that is built without a cache.
//! - Every build ends, in a time that is bounded.
//! - When all is calm again there is no result whose blobs are gone, and nothing damaged.
//!
//! `make faults RUNS=300` runs many seeds; a failure tells how to run its seed again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::{Output, Running, TestCommand};
use ashlar_test_support::layout::Layout;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::seeds::Seeds;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::wire::{Plan, Trouble, Wire};
use rustix::process::Signal;

use super::{Machine, noise, warnings};

/// Seeds that every run of the tests runs: as many as are done in two minutes.
const SEEDS: u64 = 40;

/// Seeds that run at once. They wait more than they work.
const AT_ONCE: u64 = 4;

/// How many images there are, and how many of them are small. The large ones are for servers whose
/// limit is too small for them.
const IMAGES: u64 = 8;
const SMALL_IMAGES: u64 = 4;

/// The smallest limit that there is.
const TIGHT: &str = "16MB";

/// How long a build may take. Without trouble it is a second or two; the machine is busy with other
/// tests, and all trouble of one build may take a few seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The times of files and images.
const EPOCH: &str = "1700000000";

/// What happened in all runs, so that one sees whether anything did.
#[derive(Debug, Default)]
struct Tally {
    builds: u64,
    cached: u64,
    ran: u64,
    warnings: u64,
    killed: u64,
    frozen: u64,
    disturbed: u64,
}

static TALLY: Mutex<Option<Tally>> = Mutex::new(None);

fn count(action: impl FnOnce(&mut Tally)) {
    action(TALLY.lock().unwrap().get_or_insert_default());
}

/// Writes the context of one of the images.
fn context(machine: &Machine, image: u64) {
    let busybox = bases::busybox().reference();
    let context = &machine.context;
    let size = if image < SMALL_IMAGES { 1 } else { 10 };
    let text = match image % SMALL_IMAGES {
        0 => "FROM scratch\nCOPY one /one\nCOPY two /two\nCOPY small /small\n".to_owned(),
        1 => format!(
            "FROM {busybox}\nCOPY one /one\nRUN sha256sum /one > /sum\nCOPY two /two\n\
             WORKDIR /srv\n"
        ),
        2 => format!(
            "FROM {busybox} AS made\nCOPY one /one\nRUN cat /one /one > /double\n\
             FROM scratch\nCOPY two /two\nCOPY --from=made /double /double\nCOPY small /small\n"
        ),
        _ => format!(
            "FROM {busybox}\nRUN seq 1 200000 > /numbers\nCOPY small /small\n\
             RUN sha256sum /numbers /small > /sums && rm /small\n"
        ),
    };
    context
        .dockerfile(&text)
        .file("one", noise(image + 10, 700_000 * size))
        .file("two", noise(image + 20, 400_000 * size))
        .file("small", format!("{image}"));
    for file in ["one", "two", "small"] {
        context.modified(file, 1_600_000_000);
    }
}

fn command(machine: &Machine) -> TestCommand {
    let dest = machine.home.path("layout");
    let output = format!(
        "type=oci,tar=false,rewrite-timestamp=true,dest={}",
        dest.display()
    );
    machine
        .command(&["-o", &output])
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .timeout(LIMIT)
}

fn digest(machine: &Machine) -> String {
    let directory = machine.home.path("layout");
    let digest = Layout::open(&directory).manifest_digest();
    fs::remove_dir_all(directory).unwrap();
    digest
}

/// An image's digest as it is built without a cache.
fn right_digest(image: u64) -> String {
    static KNOWN: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    known
        .entry(image)
        .or_insert_with(|| {
            let machine = Machine::new(TestUser::Sub, "context", &[]);
            context(&machine, image);
            command(&machine).run().success();
            digest(&machine)
        })
        .clone()
}

/// One seed's server, and what is done to it.
struct Scene {
    numbers: Numbers,
    image: u64,
    server: CacheServer,
    wire: Wire,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers::of(seed, 1);
        let mut server = CacheServer::prepare();
        let mut image = numbers.below(SMALL_IMAGES);
        if numbers.below(5) == 0 {
            // Results go while others come.
            server = server.with(["--limit", TIGHT]);
            image = SMALL_IMAGES + numbers.below(IMAGES - SMALL_IMAGES);
        }
        server.launch();
        let wire = Wire::with_plan(server.port(), Plan::Seeded(seed));
        Self {
            numbers,
            image,
            server,
            wire,
        }
    }

    /// Does something, or nothing, to the server or to the connections.
    fn disturb(&mut self) {
        let pause = Duration::from_millis(self.numbers.below(300));
        match self.numbers.below(12) {
            0 => {
                self.server.kill();
                thread::sleep(pause);
                self.server.launch_elsewhere();
                self.wire.lead_to(self.server.port());
                count(|tally| tally.killed += 1);
            }
            1 => {
                self.server.freeze();
                // Now and then longer than anybody waits.
                thread::sleep(pause * if self.numbers.below(4) == 0 { 30 } else { 3 });
                self.server.thaw();
                count(|tally| tally.frozen += 1);
            }
            2..=4 => {
                self.wire.now(Trouble::random(&mut self.numbers));
                count(|tally| tally.disturbed += 1);
            }
            _ => thread::sleep(pause),
        }
    }

    /// Builds on some machines at once, while the server is disturbed.
    fn build_in_trouble(&mut self) {
        let users = [TestUser::Sub, TestUser::Other];
        let machines: Vec<Machine> = (0..=self.numbers.below(2))
            .map(|number| {
                let user = users[usize::try_from(number).unwrap()];
                let machine = Machine::new(user, "context", &[&self.wire.url()]);
                context(&machine, self.image);
                machine
            })
            .collect();
        let mut running: Vec<Running> = machines
            .iter()
            .map(|machine| command(machine).start())
            .collect();
        // A builder may die too. It leaves at worst a part of what it sent.
        let victim = (self.numbers.below(8) == 0).then_some(0);
        while running.iter_mut().any(Running::is_running) {
            self.disturb();
            if let Some(victim) = victim
                && running[victim].is_running()
                && self.numbers.below(3) == 0
            {
                running[victim].signal(Signal::KILL);
            }
        }
        for (machine, running) in machines.iter().zip(running) {
            let output = running.wait();
            if victim.is_some() && output.signal() == Some(9) {
                continue;
            }
            self.check(machine, &output);
        }
    }

    fn check(&self, machine: &Machine, output: &Output) {
        output.success();
        assert!(!output.stderr().contains("panicked"), "{output}");
        assert_eq!(digest(machine), right_digest(self.image), "{output}");
        let progress = output.progress();
        count(|tally| {
            tally.builds += 1;
            tally.cached += progress.cached().len() as u64;
            tally.ran += progress.ran().len() as u64;
            tally.warnings += warnings(output).len() as u64;
        });
    }

    /// Builds on a new machine with nothing in the way.
    fn build_in_peace(&mut self) {
        self.wire.calm();
        let machine = Machine::new(TestUser::Other, "context", &[&self.wire.url()]);
        context(&machine, self.image);
        let output = command(&machine).run();
        self.check(&machine, &output);
        assert!(
            warnings(&output).is_empty(),
            "there was no trouble any more: {output}\nthe server says:\n{}",
            self.server.log()
        );
    }

    /// Ends the server and looks at what it leaves.
    fn end(&mut self) {
        self.server.terminate().success();
        let root = self.server.root();
        let fsck = self
            .server
            .command(["fsck".as_ref(), "--root".as_ref(), root.as_os_str()])
            .run();
        fsck.success();
    }
}

fn one_seed(seed: u64) {
    let mut scene = Scene::new(seed);
    for _ in 0..=scene.numbers.below(2) {
        scene.build_in_trouble();
    }
    scene.build_in_peace();
    scene.end();
}

#[test]
fn whatever_happens_to_the_cache_images_are_right() {
    let seeds = Seeds::asked_or(SEEDS);
    let test = "cache::faults::whatever_happens";
    seeds.run(AT_ONCE, test, one_seed);
    ashlar_test_support::processes::assert_none_left();
    let tally = TALLY.lock().unwrap().take().unwrap_or_default();
    println!("{} seeds: {tally:?}", seeds.count());
    // A cache that is never used is never wrong.
    if seeds.count() >= SEEDS {
        assert!(
            tally.cached > tally.builds / 4 && tally.warnings > 0 && tally.killed > 0,
            "{tally:?}"
        );
    }
}
