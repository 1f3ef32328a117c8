//! How namespaces are set up: the tables `namespace` of the settings file.
//!
//! ```toml
//! [[namespace]]
//! name = "acme/*/pr/*"          # these, and all below them; the first table that fits counts
//! reads = ["acme/{1}/main"]     # what they read through to; {1} is what the first star stands for
//! limit = "20GB"                # bytes that each may hold
//! requests = 200                # a second
//! bytes = "50MB"                # a second
//! ```

use serde::{Deserialize, Serialize, Serializer};

use super::value::Bytes;
use crate::namespaces::pattern::{Pattern, PatternError, Template};
use crate::namespaces::{Limits, Namespaces, Table};

/// So many namespaces one can read through to: each costs every lookup.
const MOST_READS: usize = 8;

/// What the file says of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceTable {
    /// Which they are.
    pub name: String,
    /// What they read through to, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// How many bytes of blobs each may hold.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub limit: Option<Bytes>,
    /// Requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Bytes a second that come and go.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub bytes: Option<Bytes>,
}

/// All of them, as the file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct NamespaceTables {
    /// The tables.
    #[serde(rename = "namespace", skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<NamespaceTable>,
}

#[expect(clippy::ref_option, reason = "that is how serde calls it")]
fn as_text<S: Serializer>(value: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(bytes) => serializer.collect_str(bytes),
        None => serializer.serialize_none(),
    }
}

/// A table that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// A name that is none.
    #[error("[[namespace]] number {number}: {error}")]
    Pattern {
        /// Which table, from 1.
        number: usize,
        /// What is wrong.
        error: PatternError,
    },
    /// Another table has all of its names.
    #[error(
        "[[namespace]] `{later}` comes behind `{earlier}`, which has all of its names: put it first"
    )]
    Hidden {
        /// The table that never counts.
        later: String,
        /// The one that counts in its place.
        earlier: String,
    },
    /// Nothing would be let in.
    #[error("[[namespace]] `{name}`: {field} has to be more than 0")]
    Zero {
        /// The table.
        name: String,
        /// What is 0.
        field: &'static str,
    },
    /// Every lookup would be slow.
    #[error("[[namespace]] `{0}` reads through to more than {MOST_READS} others")]
    TooManyReads(String),
}

fn table(number: usize, written: &NamespaceTable) -> Result<Table, NamespaceError> {
    let wrong = |error| NamespaceError::Pattern { number, error };
    let pattern: Pattern = written.name.parse().map_err(wrong)?;
    let name = || written.name.clone();
    if written.requests == Some(0) {
        return Err(NamespaceError::Zero {
            name: name(),
            field: "requests",
        });
    }
    if written.reads.len() > MOST_READS {
        return Err(NamespaceError::TooManyReads(name()));
    }
    let reads = written.reads.iter();
    let reads = reads.map(|text| Template::new(text, &pattern));
    Ok(Table {
        reads: reads.collect::<Result<_, _>>().map_err(wrong)?,
        pattern,
        limits: Limits {
            held: written.limit.and_then(Bytes::given),
            requests: written.requests,
            bytes: written.bytes.and_then(Bytes::given),
        },
    })
}

/// What tables mean. Fails if they cannot be meant.
pub fn resolve(written: &[NamespaceTable]) -> Result<Namespaces, NamespaceError> {
    let mut tables: Vec<Table> = Vec::with_capacity(written.len());
    for (index, one) in written.iter().enumerate() {
        let new = table(index + 1, one)?;
        let hides = |earlier: &&Table| earlier.pattern.has_all_of(&new.pattern);
        if let Some(earlier) = tables.iter().find(hides) {
            return Err(NamespaceError::Hidden {
                later: new.pattern.to_string(),
                earlier: earlier.pattern.to_string(),
            });
        }
        tables.push(new);
    }
    Ok(Namespaces(tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Namespaces, String> {
        let file: NamespaceTables = toml::from_str(text).map_err(|error| error.to_string())?;
        resolve(&file.tables).map_err(|error| error.to_string())
    }

    const TEXT: &str = "
        [[namespace]]
        name = 'acme/*/pr/*'
        reads = ['acme/{1}/main', 'acme/base']
        limit = '20GB'
        requests = 200
        bytes = '50MB'
        [[namespace]]
        name = 'acme'
        limit = 'none'";

    #[test]
    fn tables_say_what_is_read_and_what_may_be_used() {
        let namespaces = read(TEXT).expect("namespaces");
        let place = namespaces.place("acme/web/pr/17");
        assert_eq!(
            place.instances,
            ["acme/web/pr/17", "acme/web/main", "acme/base"]
        );
        assert_eq!(
            place.limits,
            Limits {
                held: Some(20 << 30),
                requests: Some(200),
                bytes: Some(50 << 20),
            }
        );
        assert_eq!(namespaces.place("acme/web/main").limits, Limits::default());
    }

    #[test]
    fn what_was_read_can_be_written_and_read_again() {
        let file: NamespaceTables = toml::from_str(TEXT).expect("tables");
        let again = toml::to_string(&file).expect("text");
        assert_eq!(toml::from_str(&again), Ok(file));
    }

    #[test]
    fn tables_that_cannot_be_meant_are_refused() {
        for (text, error) in [
            (
                "name = 'a//b'",
                "[[namespace]] number 1: `a//b` is no pattern",
            ),
            (
                "name = 'a/*'\nreads = ['b/{2}']",
                "{2}, but `a/*` has 1 stars",
            ),
            (
                "name = 'a'\nrequests = 0",
                "`a`: requests has to be more than 0",
            ),
            ("name = 'a'\nlimits = '1GB'", "unknown field `limits`"),
            (
                "name = 'a'\n[[namespace]]\nname = 'a/b'",
                "`a/b` comes behind `a`",
            ),
            (
                "name = '*/b'\n[[namespace]]\nname = 'a/b/*'",
                "put it first",
            ),
        ] {
            let text = format!("[[namespace]]\n{text}");
            let refused = read(&text).expect_err("refused");
            assert!(refused.contains(error), "{refused}");
        }
        let apart = "[[namespace]]\nname = 'a/b'\n[[namespace]]\nname = '*/c'\n\
                     [[namespace]]\nname = 'a'";
        assert_eq!(read(apart).map(|all| all.0.len()), Ok(3));
    }
}
