//! Where variables get their values.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

/// Variables and their values. Names are case-sensitive.
pub trait Environment {
    /// The value of a variable that is set, which may be empty.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Environment for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Environment for HashMap<String, String, S> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// In a list the last one counts.
impl<N: AsRef<str>, V: AsRef<str>> Environment for [(N, V)] {
    fn value(&self, name: &str) -> Option<&str> {
        self.iter()
            .rev()
            .find(|(candidate, _)| candidate.as_ref() == name)
            .map(|(_, value)| value.as_ref())
    }
}

impl<N: AsRef<str>, V: AsRef<str>, const LENGTH: usize> Environment for [(N, V); LENGTH] {
    fn value(&self, name: &str) -> Option<&str> {
        self.as_slice().value(name)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Environment for Vec<(N, V)> {
    fn value(&self, name: &str) -> Option<&str> {
        self.as_slice().value(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_list_counts() {
        let list = [("a", "1"), ("b", "2"), ("a", "3")];
        assert_eq!(list.value("a"), Some("3"));
        assert_eq!(list.value("A"), None);
    }

    #[test]
    fn maps_serve_too() {
        let pairs = || [("a".to_owned(), String::new())];
        assert_eq!(BTreeMap::from(pairs()).value("a"), Some(""));
        assert_eq!(HashMap::from(pairs()).value("b"), None);
        assert_eq!(Vec::from(pairs()).value("a"), Some(""));
    }
}
