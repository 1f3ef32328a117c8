//! Names of operations: `INSTANCE/operations/ID`, or `operations/ID` for the instance without name.

use std::fmt;
use std::str::FromStr;

use ashlar_proto::resource_name::is_instance_name;
use tonic::Status;

use crate::limits::INSTANCE_NAME;

/// What stands between the instance and the id. It is a keyword: no instance has it in its name.
const KEYWORD: &str = "operations";

/// The name of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationName {
    /// The instance.
    pub instance: String,
    /// A number that nobody guesses.
    pub id: u128,
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.instance.is_empty() {
            write!(f, "{}/", self.instance)?;
        }
        write!(f, "{KEYWORD}/{:032x}", self.id)
    }
}

/// A name that no operation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no name of an operation: they are like INSTANCE/operations/ID")]
pub struct NoName;

impl From<NoName> for Status {
    fn from(error: NoName) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl FromStr for OperationName {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let (collection, id) = text.rsplit_once('/').ok_or(NoName)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 32 || !id.bytes().all(is_hex) {
            return Err(NoName);
        }
        Ok(Self {
            instance: instance_of_collection(collection)?,
            id: u128::from_str_radix(id, 16).map_err(|_| NoName)?,
        })
    }
}

/// The instance whose operations `INSTANCE/operations` are.
pub fn instance_of_collection(name: &str) -> Result<String, NoName> {
    let instance = if name == KEYWORD {
        ""
    } else {
        let instance = name.strip_suffix(KEYWORD).ok_or(NoName)?;
        let instance = instance.strip_suffix('/').ok_or(NoName)?;
        if instance.is_empty() {
            return Err(NoName);
        }
        instance
    };
    if instance.len() > INSTANCE_NAME || !is_instance_name(instance) {
        return Err(NoName);
    }
    Ok(instance.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for instance in ["", "acme", "acme/web/pr/17"] {
            let name = OperationName {
                instance: instance.to_owned(),
                id: 0xab << 100,
            };
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let id = "0123456789abcdef0123456789abcdef";
        for wrong in [
            String::new(),
            id.to_owned(),
            format!("/operations/{id}"),
            format!("acme/{id}"),
            format!("acme/blobs/{id}"),
            format!("acme/blobs/operations/{id}"),
            format!("acme//operations/{id}"),
            format!("acmeoperations/{id}"),
            format!("operations/{}", id.to_uppercase()),
            format!("operations/{id}0"),
            format!("operations/+{}", &id[1..]),
        ] {
            assert_eq!(wrong.parse::<OperationName>(), Err(NoName), "{wrong}");
        }
        assert_eq!(instance_of_collection("a/operations"), Ok("a".to_owned()));
        assert_eq!(instance_of_collection("a"), Err(NoName));
    }
}
