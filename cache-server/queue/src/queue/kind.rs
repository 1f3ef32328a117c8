//! Which workers can run what.
//!
//! Operations that require the same are a *class*. Workers that no class could tell apart, and that
//! serve the same namespaces, are a *kind*: only properties that some operation asks for count, so
//! a thousand workers with a label of their own each are one kind as long as nobody asks for that
//! label. Who matches whom is worked out once for each class and kind, not for each decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::fair::Ready;
use super::worker::WorkerIndex;
use crate::OperationId;

/// A kind's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KindId(u32);

/// A class's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClassId(u32);

/// Requirements or properties.
pub(super) type Properties = BTreeMap<String, String>;

/// Operations that require the same.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) requirements: Properties,
    /// `os/arch`: whose accounts count.
    pub(super) platform: Arc<str>,
    /// Kinds that match.
    pub(super) kinds: Vec<KindId>,
    /// Operations that have not ended.
    pub(super) live: usize,
    /// Those that wait.
    pub(super) ready: Ready,
    /// Light ones that wait, in the order in which they came.
    pub(super) light: BTreeSet<(u64, OperationId)>,
}

/// Workers that are alike.
#[derive(Debug)]
pub(super) struct Kind {
    /// Those that count.
    properties: Properties,
    pub(super) namespaces: Namespaces,
    /// Classes that match.
    pub(super) classes: Vec<ClassId>,
    pub(super) members: BTreeSet<WorkerIndex>,
    /// Those that may be given something, by their place on the ring.
    pub(super) present: BTreeSet<(u64, WorkerIndex)>,
    /// Those of them that have a slot.
    pub(super) free: BTreeSet<(u64, WorkerIndex)>,
    /// Counts decisions: where they take turns.
    pub(super) turn: u32,
}

impl Kind {
    /// Whether it takes work of a namespace.
    pub(super) fn serves(&self, namespace: &str) -> bool {
        serves(&self.namespaces, namespace)
    }
}

/// Whether a namespace is one of these, or below one.
pub(super) fn serves(served: &[Arc<str>], namespace: &str) -> bool {
    served.iter().any(|served| {
        served.is_empty()
            || namespace
                .strip_prefix(&**served)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn matches(requirements: &Properties, properties: &Properties) -> bool {
    requirements
        .iter()
        .all(|(name, value)| properties.get(name) == Some(value))
}

/// Instance names.
pub(super) type Namespaces = Arc<[Arc<str>]>;

/// All kinds and classes.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    kinds: BTreeMap<KindId, Kind>,
    classes: BTreeMap<ClassId, Class>,
    by_properties: HashMap<(Properties, Namespaces), KindId>,
    by_requirements: HashMap<Properties, ClassId>,
    /// Names that classes require, and how many classes do.
    asked: HashMap<String, usize>,
    next: u32,
}

impl Kinds {
    pub(super) fn kind(&self, id: KindId) -> Option<&Kind> {
        self.kinds.get(&id)
    }

    pub(super) fn kind_mut(&mut self, id: KindId) -> Option<&mut Kind> {
        self.kinds.get_mut(&id)
    }

    pub(super) fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(&id)
    }

    pub(super) fn class_mut(&mut self, id: ClassId) -> Option<&mut Class> {
        self.classes.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (KindId, &Kind)> {
        self.kinds.iter().map(|(&id, kind)| (id, kind))
    }

    /// The class of what requires this, and names that no class has asked for before: workers that
    /// have them may be of another kind now.
    pub(super) fn enter_class(&mut self, requirements: &Properties) -> (ClassId, Vec<String>) {
        if let Some(&id) = self.by_requirements.get(requirements) {
            if let Some(class) = self.classes.get_mut(&id) {
                class.live += 1;
            }
            return (id, Vec::new());
        }
        let id = ClassId(self.next);
        self.next = self.next.wrapping_add(1);
        let mut new = Vec::new();
        for name in requirements.keys() {
            let count = self.asked.entry(name.clone()).or_default();
            *count += 1;
            if *count == 1 {
                new.push(name.clone());
            }
        }
        let value = |name: &str| requirements.get(name).map_or("", String::as_str);
        let mut class = Class {
            platform: format!("{}/{}", value("os"), value("arch")).into(),
            requirements: requirements.clone(),
            kinds: Vec::new(),
            live: 1,
            ready: Ready::default(),
            light: BTreeSet::new(),
        };
        for (&kind_id, kind) in &mut self.kinds {
            if matches(requirements, &kind.properties) {
                class.kinds.push(kind_id);
                kind.classes.push(id);
            }
        }
        self.by_requirements.insert(requirements.clone(), id);
        self.classes.insert(id, class);
        (id, new)
    }

    /// An operation of a class has ended.
    pub(super) fn leave_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else {
            return;
        };
        class.live = class.live.saturating_sub(1);
        if class.live > 0 {
            return;
        }
        let Some(class) = self.classes.remove(&id) else {
            return;
        };
        for kind in class.kinds {
            if let Some(kind) = self.kinds.get_mut(&kind) {
                kind.classes.retain(|&class| class != id);
            }
        }
        for name in class.requirements.keys() {
            if let Some(count) = self.asked.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.asked.remove(name);
                }
            }
        }
        self.by_requirements.remove(&class.requirements);
    }

    /// The kind of a worker that is not in any.
    pub(super) fn join(
        &mut self,
        worker: WorkerIndex,
        properties: &Properties,
        namespaces: &Namespaces,
    ) -> KindId {
        let counting: Properties = properties
            .iter()
            .filter(|(name, _)| self.asked.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let key = (counting, namespaces.clone());
        if let Some(&id) = self.by_properties.get(&key) {
            if let Some(kind) = self.kinds.get_mut(&id) {
                kind.members.insert(worker);
            }
            return id;
        }
        let id = KindId(self.next);
        self.next = self.next.wrapping_add(1);
        let mut kind = Kind {
            properties: key.0.clone(),
            namespaces: namespaces.clone(),
            classes: Vec::new(),
            members: BTreeSet::from([worker]),
            present: BTreeSet::new(),
            free: BTreeSet::new(),
            turn: 0,
        };
        for (&class_id, class) in &mut self.classes {
            if matches(&class.requirements, &kind.properties) {
                kind.classes.push(class_id);
                class.kinds.push(id);
            }
        }
        self.by_properties.insert(key, id);
        self.kinds.insert(id, kind);
        id
    }

    /// A worker is of this kind no more, and in none of its lists.
    pub(super) fn part(&mut self, worker: WorkerIndex, id: KindId) {
        let Some(kind) = self.kinds.get_mut(&id) else {
            return;
        };
        kind.members.remove(&worker);
        if !kind.members.is_empty() {
            return;
        }
        let Some(kind) = self.kinds.remove(&id) else {
            return;
        };
        for class in kind.classes {
            if let Some(class) = self.classes.get_mut(&class) {
                class.kinds.retain(|&kind| kind != id);
            }
        }
        self.by_properties
            .remove(&(kind.properties, kind.namespaces));
    }
}

/// What is required, for people.
pub(super) fn describe(requirements: &Properties) -> String {
    let mut text = String::new();
    for name in ["os", "arch", "variant"] {
        if let Some(value) = requirements.get(name) {
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(value);
        }
    }
    if text.is_empty() {
        text.push_str("any platform");
    }
    let others = requirements
        .iter()
        .filter(|(name, _)| !["os", "arch", "variant"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"));
    let others: Vec<String> = others.collect();
    if !others.is_empty() {
        text.push_str(" with ");
        text.push_str(&others.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(text: &str) -> Properties {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn a_namespace_has_those_below_it() {
        let served = |names: &[&str], name| {
            serves(
                &names
                    .iter()
                    .map(|&name| Arc::from(name))
                    .collect::<Vec<_>>(),
                name,
            )
        };
        assert!(served(&["a"], "a") && served(&["a"], "a/b") && served(&[""], "a"));
        assert!(!served(&["a"], "ab") && !served(&["a/b"], "a") && !served(&[], "a"));
    }

    #[test]
    fn labels_that_nobody_asks_for_make_no_kinds() {
        let mut kinds = Kinds::default();
        let all: Arc<[Arc<str>]> = Arc::from([Arc::from("")]);
        let (class, new) = kinds.enter_class(&properties("os=linux"));
        assert_eq!(new, ["os"]);
        let one = kinds.join(WorkerIndex(1), &properties("os=linux host=one"), &all);
        let two = kinds.join(WorkerIndex(2), &properties("os=linux host=two"), &all);
        let none: Arc<[Arc<str>]> = Arc::from([]);
        let other = kinds.join(WorkerIndex(3), &properties("os=linux"), &none);
        assert_eq!(one, two);
        assert_ne!(one, other);
        assert_eq!(kinds.class(class).unwrap().kinds, [one, other]);

        let (picky, new) = kinds.enter_class(&properties("os=linux host=two"));
        assert_eq!(new, ["host"]);
        assert!(kinds.class(picky).unwrap().kinds.is_empty());
        kinds.part(WorkerIndex(2), two);
        let two = kinds.join(WorkerIndex(2), &properties("os=linux host=two"), &all);
        assert_eq!(kinds.class(picky).unwrap().kinds, [two]);
        assert_eq!(kinds.kind(two).unwrap().classes, [class, picky]);
        kinds.leave_class(picky);
        assert_eq!(kinds.kind(two).unwrap().classes, [class]);
        kinds.part(WorkerIndex(1), one);
        assert!(kinds.kind(one).is_none());
        assert_eq!(kinds.class(class).unwrap().kinds, [other, two]);
    }

    #[test]
    fn requirements_for_people() {
        assert_eq!(describe(&properties("os=linux arch=arm64")), "linux/arm64");
        assert_eq!(
            describe(&properties(
                "os=linux arch=arm variant=v7 gpu=a100 isolation=chroot"
            )),
            "linux/arm/v7 with gpu=a100, isolation=chroot"
        );
        assert_eq!(describe(&properties("")), "any platform");
    }
}
