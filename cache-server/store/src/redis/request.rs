//! Commands and scripts, with the tag that says which server gets them.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::Cmd;

use super::keys::{Key, Tag};

/// A Lua script.
#[derive(Debug)]
pub(super) struct Script {
    body: String,
    hash: String,
}

/// A script that is made when it is first used.
pub(super) type StaticScript = LazyLock<Script>;

impl Script {
    /// A script of some parts, one behind the other.
    pub(super) fn new(parts: &[&str]) -> Self {
        let body = parts.concat();
        let hash = redis::Script::new(&body).get_hash().to_owned();
        Self { body, hash }
    }
}

/// What a server is asked.
#[derive(Debug)]
pub(super) struct Request {
    /// All keys have it.
    pub(super) tag: Tag,
    what: What,
    /// How many keys it is about.
    pub(super) weight: usize,
    /// Replicas are to have it before it counts as done.
    pub(super) matters: bool,
    /// Doing it a second time would give another answer: it is not tried again unless it is certain
    /// that it was not done.
    pub(super) once: bool,
}

#[derive(Debug)]
enum What {
    Command(Cmd),
    Script {
        script: &'static Script,
        keys: Vec<Key>,
        arguments: Vec<Bytes>,
    },
}

impl Request {
    /// A command about one key.
    pub(super) fn command(name: &'static str, key: &Key) -> Self {
        let mut command = redis::cmd(name);
        command.arg(&key.bytes);
        Self::new(key.tag, 1, What::Command(command))
    }

    /// A command about some keys, all of one tag.
    pub(super) fn command_of(name: &'static str, keys: &[Key]) -> Self {
        let tag = keys.first().map_or(Tag::Once, |key| key.tag);
        let mut command = redis::cmd(name);
        for key in keys {
            command.arg(&key.bytes);
        }
        Self::new(tag, keys.len(), What::Command(command))
    }

    /// A script about some keys, all of one tag.
    pub(super) fn script(script: &'static Script, keys: Vec<Key>) -> Self {
        let tag = keys.first().map_or(Tag::Once, |key| key.tag);
        debug_assert!(
            keys.iter().all(|key| key.tag.slot() == tag.slot()),
            "the keys of a script are not in one slot: {keys:?}"
        );
        Self::new(
            tag,
            keys.len(),
            What::Script {
                script,
                keys,
                arguments: Vec::new(),
            },
        )
    }

    const fn new(tag: Tag, weight: usize, what: What) -> Self {
        Self {
            tag,
            what,
            weight,
            matters: false,
            once: false,
        }
    }

    /// With one more argument.
    #[must_use]
    pub(super) fn arg(mut self, argument: impl Into<Bytes>) -> Self {
        self.push(argument);
        self
    }

    /// With a number as an argument.
    #[must_use]
    pub(super) fn number(self, number: impl ToString + Copy) -> Self {
        self.arg(number.to_string())
    }

    /// Adds an argument.
    pub(super) fn push(&mut self, argument: impl Into<Bytes>) {
        match &mut self.what {
            What::Command(command) => drop(command.arg(&argument.into()[..])),
            What::Script { arguments, .. } => arguments.push(argument.into()),
        }
    }

    /// Replicas are to have it.
    #[must_use]
    pub(super) const fn matters(mut self) -> Self {
        self.matters = true;
        self
    }

    /// It is to be done once.
    #[must_use]
    pub(super) const fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// As it is sent. A script is named by its hash, unless it has to be sent as a `whole` because
    /// the server does not have it.
    pub(super) fn encode(&self, whole: bool) -> Cmd {
        match &self.what {
            What::Command(command) => command.clone(),
            What::Script {
                script,
                keys,
                arguments,
            } => {
                let (name, text) = if whole {
                    ("EVAL", &script.body)
                } else {
                    ("EVALSHA", &script.hash)
                };
                let mut command = redis::cmd(name);
                command.arg(text).arg(keys.len());
                for key in keys {
                    command.arg(&key.bytes);
                }
                for argument in arguments {
                    command.arg(&argument[..]);
                }
                command
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "not in one slot")]
    fn keys_of_two_slots_are_a_bug() {
        static SCRIPT: StaticScript = LazyLock::new(|| Script::new(&["return 1"]));
        let key = |tag| Key {
            tag,
            bytes: Vec::new(),
        };
        let keys = vec![key(Tag::Of(1)), key(Tag::Of(2))];
        drop(Request::script(&SCRIPT, keys));
    }
}
