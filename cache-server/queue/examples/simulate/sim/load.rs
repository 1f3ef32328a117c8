//! What is built: Dockerfile-like graphs of segments.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ashlar_queue::Input;

use super::Config;
use super::rng::Rng;
use super::time::{MS, SECOND, Time};

/// Namespaces, the first of them with twice the usual share.
pub(crate) const NAMESPACES: usize = 12;
const USERS: usize = 20;
const TEMPLATES: u64 = 10;

/// A namespace's share, as the queue is told.
pub(crate) const fn weight(namespace: usize) -> u32 {
    if namespace == 0 { 200 } else { 100 }
}

/// A segment, as it is planned.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) action: Arc<str>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) parents: Vec<usize>,
    pub(crate) steps: u32,
    /// How long it runs where its layers are.
    pub(crate) time: Time,
    pub(crate) outputs: Vec<Input>,
    /// A step of it fails.
    pub(crate) fails: bool,
    /// It takes its worker down.
    pub(crate) kills: bool,
}

/// A Dockerfile with its files, cut into segments.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) namespace: usize,
    pub(crate) priority: i32,
    /// What all segments ask of a worker.
    pub(crate) requirements: BTreeMap<String, String>,
    pub(crate) segments: Vec<Segment>,
    /// What is in the action cache: whoever came first.
    pub(crate) results: RefCell<Vec<Option<u64>>>,
}

impl Plan {
    /// How long it takes at least: its longest path.
    pub(crate) fn critical(&self) -> Time {
        let mut ends = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let start = segment
                .parents
                .iter()
                .map(|&at: &usize| ends[at])
                .max()
                .unwrap_or(0);
            ends.push(start + segment.time);
        }
        ends.into_iter().max().unwrap_or(0)
    }
}

/// A build that comes.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) plan: Rc<Plan>,
    pub(crate) user: usize,
    /// Submitted and left behind.
    pub(crate) whole: bool,
}

/// Makes up builds.
#[derive(Debug)]
pub(crate) struct Load {
    rng: Rng,
    next: u64,
    step: Time,
}

const fn mixed(a: u64, b: u64, c: u64) -> u64 {
    let mut rng = Rng::new(a.rotate_left(40) ^ b.rotate_left(20) ^ c);
    rng.next();
    rng.next()
}

impl Load {
    pub(crate) const fn new(config: &Config) -> Self {
        Self {
            rng: Rng::new(config.seed ^ 0x10ad),
            next: 0,
            step: config.step,
        }
    }

    /// The time to the next build, where `rate` steps a second are wanted.
    pub(crate) fn pause(&mut self, rate: f64) -> Time {
        // What `plan` makes on average: 3.1 segments of two steps.
        const STEPS_OF_A_BUILD: f64 = 6.2;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "microseconds"
        )]
        let mean = (STEPS_OF_A_BUILD / rate.max(0.001) * 1e6) as u64;
        self.rng.wait(mean)
    }

    /// A build at some time. The first namespaces build more than the others.
    pub(crate) fn arrival(&mut self, now: Time) -> Arrival {
        let namespace = self.rng.index(NAMESPACES).min(self.rng.index(NAMESPACES));
        self.arrival_of(now, namespace)
    }

    /// A build of a namespace.
    pub(crate) fn arrival_of(&mut self, now: Time, namespace: usize) -> Arrival {
        let user = self.rng.index(USERS);
        let whole = self.rng.chance(0.02);
        Arrival {
            plan: Rc::new(self.plan(now, namespace)),
            user,
            whole,
        }
    }

    fn plan(&mut self, now: Time, namespace: usize) -> Plan {
        let at = namespace as u64;
        let template = self.rng.below(TEMPLATES);
        // Dependencies change every twenty minutes or so, at other times for each template.
        let revision = (now / SECOND + mixed(at, template, 9) % 1200) / 1200;
        let platform = if template < 2 { "arm64" } else { "amd64" };
        let mut requirements: BTreeMap<String, String> = [("os", "linux"), ("arch", platform)]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        if mixed(at, template, 3).is_multiple_of(50) {
            requirements.insert("disk".into(), "large".into());
        }
        // Five base images for all, of three layers each.
        let base = mixed(at, template, 2) % 5;
        let mut below: Vec<Input> = (0..3)
            .map(|layer| Input {
                layer: mixed(77, base, layer),
                bytes: (10 + layer * 30) << 20,
            })
            .collect();
        // What the template has in common with its builds before: 200 MB.
        below.push(Input {
            layer: mixed(1000 + at, template, revision),
            bytes: 200 << 20,
        });

        let mut plan = Plan {
            namespace,
            priority: [0, 0, 0, -10, 10][self.rng.index(5)],
            requirements,
            segments: Vec::new(),
            results: RefCell::new(Vec::new()),
        };
        let middle = 1 + self.rng.index(3);
        match self.rng.below(10) {
            // One stage.
            0..3 => self.segment(&mut plan, &below, &[]),
            // Stages that do not depend on each other, and one that copies from them.
            3..7 => {
                for _ in 0..=middle {
                    self.segment(&mut plan, &below, &[]);
                }
                let all: Vec<usize> = (0..=middle).collect();
                self.segment(&mut plan, &below[..3], &all);
            }
            // Stages that stand on one.
            _ => {
                self.segment(&mut plan, &below, &[]);
                for _ in 0..=middle {
                    self.segment(&mut plan, &below, &[0]);
                }
            }
        }
        plan
    }

    fn segment(&mut self, plan: &mut Plan, below: &[Input], parents: &[usize]) {
        self.next += 1;
        let steps = 1 + self.rng.below(3);
        let time: Time = (0..steps)
            .map(|_| (self.step / 20 + self.rng.wait(self.step * 19 / 20)).min(self.step * 8))
            .sum();
        let mut inputs = below.to_vec();
        for &parent in parents {
            inputs.extend_from_slice(&plan.segments[parent].outputs);
        }
        let outputs = (0..steps)
            .map(|_| Input {
                layer: self.rng.next(),
                bytes: self.rng.between(1 << 20, 60 << 20),
            })
            .collect();
        plan.segments.push(Segment {
            action: format!("{:032x}", self.next).into(),
            inputs,
            parents: parents.to_vec(),
            steps: u32::try_from(steps).unwrap_or(1),
            time: time + 100 * MS,
            outputs,
            fails: self.rng.chance(0.01),
            kills: self.rng.chance(0.000_02),
        });
        plan.results.borrow_mut().push(None);
    }
}
