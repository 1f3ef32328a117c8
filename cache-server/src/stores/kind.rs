//! What is kept under the digests of actions: results, and what the server keeps like them.

/// What is kept under the digests of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Results of actions.
    Result,
    /// The latest snapshots of cache mounts.
    CacheMount,
    /// Which chunks a blob consists of.
    Chunks,
}

impl Kind {
    /// What the names begin with under which the stores know it. No client can name them: their
    /// first segment is a keyword.
    const fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Result => None,
            Self::CacheMount => Some("operations/cache-mounts"),
            Self::Chunks => Some("operations/chunks"),
        }
    }

    /// The name under which the stores know what an instance keeps of it.
    pub fn instance(self, instance: &str) -> String {
        match self.prefix() {
            Some(prefix) if self == Self::Chunks && instance.is_empty() => prefix.to_owned(),
            Some(prefix) => format!("{prefix}/{instance}"),
            None => instance.to_owned(),
        }
    }

    /// What a name of the stores means: what is kept under it, and whose it is.
    pub fn of(name: &str) -> (Self, &str) {
        for kind in [Self::CacheMount, Self::Chunks] {
            let rest = kind.prefix().and_then(|prefix| name.strip_prefix(prefix));
            if let Some(rest) = rest {
                return (kind, rest.strip_prefix('/').unwrap_or(rest));
            }
        }
        (Self::Result, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_stores_say_what_is_kept_and_whose_it_is() {
        for kind in [Kind::Result, Kind::CacheMount, Kind::Chunks] {
            for instance in ["", "acme/web/main"] {
                assert_eq!(Kind::of(&kind.instance(instance)), (kind, instance));
            }
        }
    }
}
