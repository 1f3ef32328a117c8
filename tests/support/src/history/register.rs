//! Whether the results of one key can have followed each other.
//!
//! A key is a register that is empty or has a value. Each call took effect at one moment between
//! its begin and its end, if it took effect; the search looks for an order of those moments in
//! which every answer is right (Wing and Gong's search, with Lowe's memory of what was tried).

use std::collections::{BTreeSet, HashSet};

use super::{Committed, Found, History, Key, Lost, Operation, Time, Value, What};

/// A call as the register sees it.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    operation: &'a Operation,
    /// `None`: it may take effect at any later time.
    end: Option<Time>,
    effect: Effect,
}

#[derive(Debug, Clone, Copy)]
enum Effect {
    /// There was none, or this one already; this one is there now.
    Store(Value),
    /// The same, or it never happened.
    MayStore(Value),
    /// This one was there.
    Find(Value),
    /// There was none.
    FindNone,
    /// There is none now.
    Clear,
    /// The same, or it never happened.
    MayClear,
}

impl Effect {
    /// Whether nothing is wrong if it never happened.
    const fn is_optional(self) -> bool {
        matches!(self, Self::MayStore(_) | Self::MayClear)
    }

    /// Whether it changes nothing.
    const fn only_looks(self) -> bool {
        matches!(self, Self::Find(_) | Self::FindNone)
    }

    /// What there is after it, if it can happen.
    fn after(self, before: Option<Value>) -> Option<Option<Value>> {
        match self {
            Self::Store(value) => before
                .is_none_or(|there| there == value)
                .then_some(Some(value)),
            Self::MayStore(value) => before.is_none().then_some(Some(value)),
            Self::Find(value) => (before == Some(value)).then_some(before),
            Self::FindNone => before.is_none().then_some(None),
            Self::Clear | Self::MayClear => Some(None),
        }
    }
}

/// A time in which a value can vanish, or come back.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Time,
    end: Time,
    /// Only what nobody was told is undone: the register is as it was when something was last
    /// confirmed.
    unconfirmed: bool,
}

/// What is known after some of the steps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<bool>,
    value: Option<Value>,
    /// What there was after the last change that was confirmed.
    confirmed: Option<Value>,
}

/// The calls of a key whose answers fit in no order; the calls that could not be placed are last.
pub(super) fn contradiction(history: &History, key: Key) -> Option<Vec<String>> {
    let search = Search::new(history, key);
    let reached = search.run()?;
    let mut story: Vec<String> = Vec::new();
    for done in [true, false] {
        for (step, _) in search
            .steps
            .iter()
            .zip(&reached)
            .filter(|(_, own)| **own == done)
        {
            let mark = if done { "fits" } else { "left" };
            story.push(format!("{mark}  {}", step.operation));
        }
    }
    Some(story)
}

struct Search<'a> {
    steps: Vec<Step<'a>>,
    windows: Vec<Window>,
}

impl<'a> Search<'a> {
    fn new(history: &'a History, key: Key) -> Self {
        let windows: Vec<Window> = history
            .losses
            .iter()
            .map(|loss| Window {
                begin: loss.begin,
                end: loss.end,
                unconfirmed: loss.what == Lost::Unconfirmed,
            })
            .collect();
        let own: Vec<&Operation> = history
            .operations
            .iter()
            .filter(|operation| operation.key == key)
            .collect();
        let mut seen = BTreeSet::new();
        for operation in &own {
            match operation.what {
                What::Commit {
                    outcome: Some(Committed::There(value)),
                    ..
                }
                | What::Probe {
                    found: Some(Found::Hit(value)),
                } => {
                    seen.insert(value);
                }
                _ => {}
            }
        }
        let mut steps: Vec<Step<'_>> = own
            .into_iter()
            .filter_map(|operation| {
                let effect = effect(operation, &seen, &windows)?;
                let end = operation.end.filter(|_| !effect.is_optional());
                Some(Step {
                    operation,
                    end,
                    effect,
                })
            })
            .collect();
        steps.sort_by_key(|step| step.operation.begin);
        Self { steps, windows }
    }

    /// `None` if there is an order; else what was placed when most was.
    fn run(&self) -> Option<Vec<bool>> {
        let start = Place {
            done: vec![false; self.steps.len()],
            value: None,
            confirmed: None,
        };
        let mut best = start.done.clone();
        let mut tried = HashSet::new();
        let mut open = vec![start];
        while let Some(place) = open.pop() {
            let left = || {
                self.steps
                    .iter()
                    .zip(&place.done)
                    .filter(|(step, done)| !**done && !step.effect.is_optional())
            };
            left().next()?;
            if count(&place.done) > count(&best) {
                best.clone_from(&place.done);
            }
            // Nothing that begins after one of these has ended comes before it.
            let until = left().filter_map(|(step, _)| step.end).min();
            let next = self.next(&place, until);
            open.extend(next.into_iter().filter(|next| tried.insert(next.clone())));
        }
        Some(best)
    }

    /// Whether there may have been two masters meanwhile, of which neither confirms anything.
    fn may_be_behind(&self, step: &Step<'_>) -> bool {
        self.windows.iter().any(|window| {
            window.unconfirmed
                && window.end >= step.operation.begin
                && step.end.is_none_or(|end| window.begin <= end)
        })
    }

    fn next(&self, place: &Place, until: Option<Time>) -> Vec<Place> {
        let mut next = Vec::new();
        let mut since = Time::ZERO;
        for (number, step) in self.steps.iter().enumerate() {
            let begin = step.operation.begin;
            if place.done[number] {
                since = since.max(begin);
                continue;
            }
            if until.is_some_and(|until| begin > until) {
                continue;
            }
            let seen = step.effect.after(place.value);
            if seen.is_none() && step.effect.only_looks() && self.may_be_behind(step) {
                // It has seen what was confirmed, and not what came after.
                if step.effect.after(place.confirmed).is_some() {
                    let mut done = place.done.clone();
                    done[number] = true;
                    next.push(Place {
                        done,
                        ..place.clone()
                    });
                }
            }
            if let Some(value) = seen {
                let mut done = place.done.clone();
                done[number] = true;
                let confirmed = match step.effect {
                    Effect::Store(_) | Effect::Clear => value,
                    _ => place.confirmed,
                };
                next.push(Place {
                    done,
                    value,
                    confirmed,
                });
            }
        }
        let open = self.windows.iter().filter(|window| {
            window.end >= since && until.is_none_or(|until| window.begin <= until)
        });
        for window in open {
            let value = place.confirmed.filter(|_| window.unconfirmed);
            if value != place.value {
                next.push(Place {
                    done: place.done.clone(),
                    value,
                    confirmed: value,
                });
            }
        }
        next
    }
}

fn count(done: &[bool]) -> usize {
    done.iter().filter(|done| **done).count()
}

/// What a call is to the register; `None` if it says nothing.
fn effect(operation: &Operation, seen: &BTreeSet<Value>, windows: &[Window]) -> Option<Effect> {
    // While things vanish, a cache may be wrong about one that is there after all.
    let doubtful = || {
        windows.iter().any(|window| {
            !window.unconfirmed
                && window.end >= operation.begin
                && operation.end.is_none_or(|end| window.begin <= end)
        })
    };
    match operation.what {
        What::Commit { value, outcome, .. } => match outcome {
            Some(Committed::Stored) => Some(Effect::Store(value)),
            Some(Committed::There(there)) => Some(Effect::Find(there)),
            Some(Committed::Superseded | Committed::Refused) => None,
            // One that nobody ever saw explains nothing.
            None => seen.contains(&value).then_some(Effect::MayStore(value)),
        },
        What::Probe { found } => match found? {
            Found::Hit(value) => Some(Effect::Find(value)),
            Found::Miss => (!doubtful()).then_some(Effect::FindNone),
        },
        What::Invalidate { done } => Some(match done {
            Some(()) => Effect::Clear,
            None => Effect::MayClear,
        }),
        What::Acquire { .. } | What::Renew { .. } | What::Release { .. } | What::Read { .. } => {
            None
        }
    }
}
