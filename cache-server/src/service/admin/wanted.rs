//! Which results somebody wants to be rid of.

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::ext::invalidate_request::What as Asked;
use ashlar_proto::wire::reapi;
use prost::Message as _;
use tonic::Status;

use crate::auth::caller::is_within;
use crate::service::request::{action, check_instance};
use crate::stores::kind::Kind;

/// Which results somebody wants to be rid of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Those that a key has signed.
    Signer(String),
    /// Those of an instance and of all below it, with what is kept like results.
    Within(String),
    /// One.
    One(ActionKey),
    /// Those of a step: the actions of its key, whatever kind of key it is.
    Step {
        /// The key.
        key: String,
        /// What it is looked up under.
        actions: Vec<CasDigest>,
    },
}

/// Some hexadecimal digits of 32 bytes, in small letters.
fn hash(text: &str, what: &str) -> Result<String, Status> {
    let text = text.to_ascii_lowercase();
    if text.len() == 64 && hex::decode(&text).is_ok() {
        Ok(text)
    } else {
        Err(Status::invalid_argument(format!(
            "{what} is written as 64 hexadecimal digits"
        )))
    }
}

impl Wanted {
    /// What a request asks for.
    pub fn read(asked: Option<Asked>) -> Result<Self, Status> {
        match asked {
            Some(Asked::Signer(id)) => Ok(Self::Signer(hash(&id, "the id of a key")?)),
            Some(Asked::InstancePrefix(name)) => {
                check_instance(&name)?;
                Ok(Self::Within(name))
            }
            Some(Asked::Action(one)) => {
                check_instance(&one.instance_name)?;
                Ok(Self::One(ActionKey {
                    action: action(one.digest_function, one.action.as_ref())?,
                    instance: one.instance_name,
                }))
            }
            Some(Asked::StepKey(key)) => {
                let key = hash(&key, "the key of a step")?;
                let actions = actions_of(&key);
                Ok(Self::Step { key, actions })
            }
            None => Err(Status::invalid_argument(
                "it is not said which results: by signer, instance, action or step key",
            )),
        }
    }

    /// Whether a result is among them, as far as its name says; `None` if its signers have to be
    /// looked at.
    pub fn names(&self, key: &ActionKey) -> Option<bool> {
        let (kind, namespace) = Kind::of(&key.instance);
        match self {
            Self::Signer(_) if kind == Kind::Result => None,
            Self::Signer(_) => Some(false),
            Self::Within(top) => Some(is_within(namespace, top)),
            Self::One(one) => Some(one == key),
            Self::Step { actions, .. } => {
                Some(kind == Kind::Result && actions.contains(&key.action))
            }
        }
    }

    /// For the audit log: by what they were chosen, and which it was.
    pub fn describe(&self) -> (&'static str, String) {
        match self {
            Self::Signer(id) => ("signer", id.clone()),
            Self::Within(name) => ("instance", name.clone()),
            Self::One(one) => ("action", format!("{} in `{}`", one.action, one.instance)),
            Self::Step { key, .. } => ("step", key.clone()),
        }
    }
}

/// The actions that a key of a step is looked up under: see `docs/formats.md`.
fn actions_of(key: &str) -> Vec<CasDigest> {
    let mut actions = Vec::new();
    for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
        for (kind, output_paths) in [
            ("definition", &["layers", "result.json"][..]),
            ("content", &["layers", "result.json"]),
            ("instruction", &[]),
        ] {
            let of = |message: Vec<u8>| CasDigest::of(function, &message);
            let command = reapi::Command {
                arguments: vec!["ashlar.step/1".to_owned(), kind.to_owned(), key.to_owned()],
                output_paths: output_paths.iter().map(|&path| path.to_owned()).collect(),
                ..Default::default()
            };
            let action = reapi::Action {
                command_digest: Some(digest_to_wire(&of(command.encode_to_vec()))),
                input_root_digest: Some(digest_to_wire(&of(Vec::new()))),
                ..Default::default()
            };
            actions.push(of(action.encode_to_vec()));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instance: &str) -> ActionKey {
        ActionKey {
            instance: instance.to_owned(),
            action: CasDigest::of(DigestFunction::Blake3, b"action"),
        }
    }

    #[test]
    fn a_namespace_is_meant_with_all_below_it_and_all_that_is_kept_for_it() {
        let wanted = Wanted::read(Some(Asked::InstancePrefix("acme/web".to_owned())));
        let wanted = wanted.expect("a wish");
        for (name, is_meant) in [
            ("acme/web", true),
            ("acme/web/pr/17", true),
            ("operations/cache-mounts/acme/web", true),
            ("operations/chunks/acme/web/pr/17", true),
            ("acme/website", false),
            ("acme", false),
            ("operations/chunks", false),
        ] {
            assert_eq!(wanted.names(&at(name)), Some(is_meant), "{name}");
        }
        let all = Wanted::read(Some(Asked::InstancePrefix(String::new()))).expect("a wish");
        assert_eq!(all.names(&at("operations/chunks")), Some(true));
    }

    #[test]
    fn a_step_is_found_under_each_kind_of_key() {
        let key = "0f".repeat(32);
        let wanted = Wanted::read(Some(Asked::StepKey(key.to_uppercase()))).expect("a wish");
        let Wanted::Step { actions, .. } = &wanted else {
            panic!("{wanted:?}");
        };
        assert_eq!(actions.len(), 6);
        for action in actions {
            let here = ActionKey {
                action: *action,
                ..at("any/where")
            };
            assert_eq!(wanted.names(&here), Some(true));
        }
        assert_eq!(wanted.names(&at("any/where")), Some(false));
    }

    #[test]
    fn a_wish_that_is_none_is_refused() {
        for asked in [
            None,
            Some(Asked::Signer("ab".to_owned())),
            Some(Asked::StepKey("zz".repeat(32))),
            Some(Asked::InstancePrefix("a//b".to_owned())),
            Some(Asked::Action(Default::default())),
        ] {
            let status = Wanted::read(asked).expect_err("refused");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
        }
    }
}
