//! What happens to workers.

use ashlar_queue::{Event, Outcome};

use super::machine::{Job, Task, Trouble};
use super::time::{SECOND, Time};
use super::{Happening, Simulation};

/// How often something happens to one worker: once in three hours.
const EACH: Time = 3 * 3600 * SECOND;

impl Simulation {
    /// Something goes wrong somewhere.
    pub(crate) fn fault(&mut self) {
        if self.is_over {
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "microseconds"
        )]
        let mean = (EACH as f64 / self.machines.len() as f64 / self.config.faults) as u64;
        let after = self.rng.wait(mean.max(1));
        self.at(after, Happening::Fault);
        let index = self.rng.index(self.machines.len());
        if self.machines[index].trouble != Trouble::None {
            return;
        }
        match self.rng.below(100) {
            0..30 => self.crash(index),
            30..50 => self.hang(index),
            50..69 => self.cut(index),
            69 => {
                // A switch fails.
                let len = self.machines.len();
                for at in 0..(len / 100).max(2) {
                    self.cut((index + at) % len);
                }
            }
            _ => self.drain(index),
        }
    }

    /// The worker's process, or its machine, dies.
    pub(crate) fn crash(&mut self, index: usize) {
        self.report.crashes += 1;
        self.vanish(index);
        let life = self.machines[index].life;
        let after = self.rng.between(20 * SECOND, 120 * SECOND);
        self.at(
            after,
            Happening::Over {
                machine: index,
                life,
            },
        );
    }

    /// All that a worker had is gone; when it comes again it is another.
    fn vanish(&mut self, index: usize) {
        let tasks: Vec<Task> = std::mem::take(&mut self.machines[index].tasks);
        for task in &tasks {
            if task.outcome.is_none() {
                self.count_task(task, true);
            }
            if let (Job::Whole(number), None) = (&task.job, &task.outcome) {
                self.stop_driving(*number, task.assignment.fencing);
            }
        }
        if let Some(connection) = self.machines[index].connection {
            let after = self.rng.between(SECOND / 10, 15 * SECOND);
            self.at(after, Happening::Lost(connection));
        }
        let name = self.name();
        let keeps_disk = self.rng.chance(0.5);
        self.machines[index].reborn(format!("machine{index}.{name}").into(), keeps_disk);
    }

    /// It is stopped for a while.
    fn hang(&mut self, index: usize) {
        self.report.hangs += 1;
        let after = self.rng.between(3 * SECOND, 90 * SECOND);
        self.machines[index].trouble = Trouble::Hung(self.now + after);
        let life = self.machines[index].life;
        self.at(
            after,
            Happening::Over {
                machine: index,
                life,
            },
        );
    }

    /// Nothing comes through for a while.
    fn cut(&mut self, index: usize) {
        if self.machines[index].trouble != Trouble::None {
            return;
        }
        self.report.cuts += 1;
        let after = self.rng.between(SECOND, 90 * SECOND);
        let machine = &mut self.machines[index];
        machine.trouble = Trouble::Cut(self.now + after);
        let connection = machine.connection.take();
        let life = machine.life;
        self.at(
            after,
            Happening::Over {
                machine: index,
                life,
            },
        );
        if let Some(connection) = connection {
            let notices = self.rng.between(SECOND, 40 * SECOND);
            self.at(notices, Happening::Lost(connection));
        }
    }

    /// It is to go: it gives back what takes long, and takes nothing more.
    fn drain(&mut self, index: usize) {
        if self.machines[index].draining {
            return;
        }
        self.report.drains += 1;
        let machine = &mut self.machines[index];
        machine.draining = true;
        let (life, connection) = (machine.life, machine.connection);
        if let Some(connection) = connection {
            let why = "it drains".into();
            self.say(
                index,
                Event::Capacity {
                    connection,
                    free: 0,
                    draining: true,
                    why,
                },
            );
        }
        self.hand_back(index);
        self.at(
            40 * SECOND,
            Happening::Drained {
                machine: index,
                life,
            },
        );
    }

    fn hand_back(&mut self, index: usize) {
        let end = self.now.saturating_add(30 * SECOND);
        let long: Vec<_> = self.machines[index]
            .tasks
            .iter()
            .filter(|task| task.outcome.is_none() && task.ends > end)
            .map(|task| (task.assignment.fencing, task.job.clone()))
            .collect();
        for (fencing, job) in long {
            self.task_done(index, fencing, Outcome::HandedBack);
            if let Job::Whole(number) = job {
                self.stop_driving(number, fencing);
            }
        }
    }

    pub(crate) fn drained(&mut self, index: usize, life: u32) {
        let machine = &self.machines[index];
        if machine.life != life {
            return;
        }
        // What came after it began to drain, and what it could not say.
        self.hand_back(index);
        self.vanish(index);
        let life = self.machines[index].life;
        self.at(
            20 * SECOND,
            Happening::Over {
                machine: index,
                life,
            },
        );
    }

    /// A machine's trouble is over.
    pub(crate) fn over(&mut self, index: usize, life: u32) {
        let machine = &mut self.machines[index];
        if machine.life != life {
            return;
        }
        machine.trouble = Trouble::None;
        for effect in std::mem::take(&mut machine.inbox) {
            self.act(index, effect);
        }
        let machine = &self.machines[index];
        if machine.connection.is_none() {
            let life = machine.life;
            let after = self.rng.below(2 * SECOND);
            self.at(
                after,
                Happening::Connects {
                    machine: index,
                    life,
                },
            );
        }
    }
}
