//! Ten builders and three servers over a real Redis and a real S3 server, while processes are
//! killed, stopped, started and added, links are cut, delayed, stalled and changed, Redis is
//! emptied and fails over, and S3 is slow, refuses and forgets. All of it follows from a seed.
//!
//! - Every image is the one that is built without a cache.
//! - Every build ends well, in a time that is bounded.
//! - When all is calm again, every server is ready by itself; a build repairs what is damaged, tells
//!   of it once, and the next one runs nothing.
//!
//! `make farm-faults RUNS=300` runs many seeds; a failure tells how to run its seed again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use ashlar_test_support::bases;
use ashlar_test_support::command::{Output, Running, TestCommand};
use ashlar_test_support::farm::{Farm, Kind, Shape, Tally, Troubles};
use ashlar_test_support::layout::Layout;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::seeds::Seeds;
use ashlar_test_support::user::TestUser;
use rustix::process::Signal;

use super::{Machine, noise, warnings};

const TEST: &str = "cache::farm_faults::whatever_happens_to_a_farm";

/// Seeds that every run of the tests runs: as many as are done in some two minutes.
const SEEDS: u64 = 14;

/// Seeds that run at once. They wait as much as they work.
const AT_ONCE: u64 = 3;

const BUILDERS: u64 = 10;
const IMAGES: u64 = 6;

/// So many builders start at once; one more after each trouble.
const FIRST_BUILDERS: u64 = 4;

/// How long a build may take. Without trouble it is a second or two; all trouble of one build may
/// take a while, and the machine has two processors for all of it.
const LIMIT: Duration = Duration::from_secs(100);

/// One build finds and makes again all that is damaged of an image; the next one runs nothing. One
/// more for what another of the farm's images has in common with it.
const MOST_REPAIRS: u32 = 3;

/// Longer than builders hold leases without renewing them.
const LONGER_THAN_LEASES: Duration = Duration::from_secs(11);

/// The times of files and images.
const EPOCH: &str = "1700000000";

static TALLY: LazyLock<Arc<Tally>> = LazyLock::new(Arc::default);

/// Writes the context of one of the images, all of which begin alike.
fn context(machine: &Machine, image: u64) {
    let busybox = bases::busybox().reference();
    let common = format!("FROM {busybox} AS common\nCOPY one /one\nRUN sha256sum /one > /sum\n");
    let rest = match image {
        0 => "COPY two /two\n".to_owned(),
        1 => "WORKDIR /srv\nRUN seq 1 30000 > numbers && cat /sum >> numbers\n".to_owned(),
        2 => "RUN cat /one /one > /double\n\
              FROM scratch\nCOPY --from=common /double /double\nCOPY small /small\n"
            .to_owned(),
        3 => "COPY two /two\nRUN cat /one /two > /both && rm /two\n".to_owned(),
        4 => format!(
            "FROM {busybox} AS other\nCOPY small /small\nRUN cat /small > /copy\n\
             FROM common\nCOPY --from=other /copy /copy\nRUN rm /sum\n"
        ),
        _ => "COPY large /large\nCOPY small /small\n".to_owned(),
    };
    let context = &machine.context;
    context
        .dockerfile(&(common + &rest))
        .file("one", noise(1, 60_000))
        .file("two", noise(2, 400_000))
        .file("small", "small\n");
    if image == 5 {
        context.file("large", noise(3, 5_000_000));
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

/// One build, on a machine of its own.
struct Builder {
    machine: Machine,
    image: u64,
    running: Running,
}

impl Builder {
    fn start(number: u64, image: u64, farm: &Farm) -> Self {
        let user = if number.is_multiple_of(2) {
            TestUser::Sub
        } else {
            TestUser::Other
        };
        let machine = Machine::new(user, "context", &[&farm.url()]);
        context(&machine, image);
        let running = command(&machine).start();
        Self {
            machine,
            image,
            running,
        }
    }

    /// Waits for its end, which has to be a good one.
    fn check(self, farm: &Farm) -> Output {
        let output = self.running.wait();
        let told = || format!("{output}\nthe servers say:\n{}", farm.states());
        assert_eq!(output.code(), Some(0), "{}", told());
        assert!(!output.stderr().contains("panicked"), "{}", told());
        let digest = digest(&self.machine);
        assert_eq!(digest, right_digest(self.image), "{}", told());
        let progress = output.progress();
        TALLY.count("builds", 1);
        TALLY.count("steps cached", progress.cached().len() as u64);
        TALLY.count("steps run", progress.ran().len() as u64);
        TALLY.count("warnings", warnings(&output).len() as u64);
        output
    }
}

/// What is done to one of the builders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    /// Since then.
    Frozen(Instant),
    Thawed,
}

struct Scene {
    numbers: Numbers,
    farm: Farm,
    troubles: Troubles,
}

impl Scene {
    fn new(seed: u64) -> Option<Self> {
        let mut numbers = Numbers::of(seed, 1);
        let database = match numbers.below(8) {
            0 => Kind::Cluster,
            1 => Kind::Replicated,
            _ => Kind::Single,
        };
        let near = numbers.below(2) == 0;
        let shape = Shape {
            database,
            near,
            peers: near && numbers.below(2) == 0,
            ..Shape::default()
        };
        TALLY.count(
            match database {
                Kind::Single => "farms over one Redis",
                Kind::Cluster => "farms over a Redis cluster",
                Kind::Replicated => "farms over Redis with a replica",
            },
            1,
        );
        Some(Self {
            numbers,
            farm: Farm::start(TEST, shape)?,
            troubles: Troubles::new(seed, &TALLY),
        })
    }

    fn build_in_trouble(&mut self) {
        let first = self.numbers.below(IMAGES);
        let start =
            |number: u64, farm: &Farm| Builder::start(number, (first + number) % IMAGES, farm);
        let mut builders: Vec<Builder> =
            (0..FIRST_BUILDERS).map(|n| start(n, &self.farm)).collect();
        let victim = self.numbers.place(builders.len());
        // One in eight is killed, one in eight is frozen for longer than its leases.
        let planned = self.numbers.below(8);
        let mut fate = None;
        loop {
            self.troubles.disturb(&mut self.farm);
            let started = builders.len() as u64;
            if started < BUILDERS {
                builders.push(start(started, &self.farm));
            }
            let running = &mut builders[victim].running;
            match fate {
                None if planned < 2 && running.is_running() => {
                    if planned == 0 {
                        running.signal(Signal::KILL);
                        TALLY.count("builders killed", 1);
                        fate = Some(Fate::Killed);
                    } else {
                        running.signal(Signal::STOP);
                        TALLY.count("builders frozen", 1);
                        fate = Some(Fate::Frozen(Instant::now()));
                    }
                }
                Some(Fate::Frozen(since)) if since.elapsed() > LONGER_THAN_LEASES => {
                    running.signal(Signal::CONT);
                    fate = Some(Fate::Thawed);
                }
                _ => {}
            }
            let over = builders.iter_mut().all(|own| !own.running.is_running());
            if over && builders.len() as u64 == BUILDERS {
                break;
            }
        }
        for (number, builder) in builders.into_iter().enumerate() {
            if number == victim && fate == Some(Fate::Killed) {
                // It was killed, or had just ended.
                drop(builder.running.wait());
                continue;
            }
            drop(builder.check(&self.farm));
        }
    }

    /// Builds an image on new machines with nothing in the way, until one of them runs nothing.
    fn build_in_peace(&mut self) {
        self.farm.calm();
        let image = self.numbers.below(IMAGES);
        let mut seen = String::new();
        for _ in 0..MOST_REPAIRS {
            let builder = Builder::start(0, image, &self.farm);
            let output = builder.check(&self.farm);
            let warnings = warnings(&output);
            if warnings.is_empty() && output.progress().ran().is_empty() {
                return;
            }
            // Objects that were taken away are missed when somebody wants them.
            let excused = warnings.iter().all(|text| text.contains("it lacks blobs"));
            let told = || format!("{output}\nthe servers say:\n{}", self.farm.states());
            assert!(excused, "no trouble any more: {}", told());
            seen.push_str(&output.to_string());
        }
        panic!("it is never done: {seen}\n{}", self.farm.states());
    }
}

fn one_seed(seed: u64) {
    let Some(mut scene) = Scene::new(seed) else {
        return;
    };
    scene.build_in_trouble();
    scene.build_in_peace();
    scene.farm.end();
}

#[test]
fn whatever_happens_to_a_farm_images_are_right() {
    let seeds = Seeds::asked_or(SEEDS);
    seeds.run(AT_ONCE, TEST, one_seed);
    ashlar_test_support::processes::assert_none_left();
    println!("{} seeds: {}", seeds.count(), *TALLY);
    // A cache that is never used is never wrong, and one that is left alone is no test.
    if seeds.count() >= SEEDS && TALLY.of("builds") > 0 {
        assert!(TALLY.of("steps cached") > TALLY.of("builds"), "{}", *TALLY);
        for happened in ["servers killed", "servers frozen", "S3 answered 503"] {
            assert!(TALLY.of(happened) > 0, "{happened}: {}", *TALLY);
        }
    }
}
