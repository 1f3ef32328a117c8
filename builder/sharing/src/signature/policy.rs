//! Which caches signatures are demanded of.

use std::sync::Arc;

use super::trust::{Trust, covers};

/// What is demanded of some caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The cache's name without its instance, as `grpc://HOST:PORT`; `None` for any.
    pub cache: Option<String>,
    /// Instances: a name, `NAME/*` for all below it, `*` for all; `None` for any.
    pub instance: Option<String>,
    /// What is demanded.
    pub trust: Arc<Trust>,
}

/// What is demanded of each cache: the first rule that fits says it. Where none fits, nobody is
/// trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    nobody: Arc<Trust>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::of_all(Trust::Any)
    }
}

impl Policy {
    /// The policy of some rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            // Signatures of no key at all.
            nobody: Arc::new(Trust::Signed(super::trust::Signed::default())),
        }
    }

    /// The same for all caches.
    pub fn of_all(trust: Trust) -> Self {
        Self::new(vec![Rule {
            cache: None,
            instance: None,
            trust: Arc::new(trust),
        }])
    }

    /// What is demanded of a cache.
    pub fn of(&self, cache: &str, instance: &str) -> &Arc<Trust> {
        let fits = |rule: &&Rule| {
            let of_cache = rule.cache.as_deref().is_none_or(|named| named == cache);
            let pattern = rule.instance.as_deref();
            of_cache && pattern.is_none_or(|pattern| covers(pattern, instance))
        };
        let rule = self.rules.iter().find(fits);
        rule.map_or(&self.nobody, |rule| &rule.trust)
    }

    /// Whether there is any cache of which something is demanded.
    pub fn demands_anything(&self) -> bool {
        let is_for_all = |rule: &Rule| rule.cache.is_none() && rule.instance.is_none();
        self.rules.iter().any(|rule| rule.trust.demands()) || !self.rules.iter().any(is_for_all)
    }

    /// Whether nothing is taken from any cache without proof.
    pub fn demands_always(&self) -> bool {
        self.rules.iter().all(|rule| rule.trust.demands())
    }
}
