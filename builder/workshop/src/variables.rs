//! Environment variables. They are read in one place of each program, and handed on.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

/// Looks a variable up.
type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// The environment that somebody was given. Cheap to clone.
#[derive(Clone)]
pub struct Variables(Arc<Lookup>);

/// Values may be secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables(...)")
    }
}

impl Variables {
    /// Variables that a function looks up.
    pub fn new(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// A variable as it is; `None` if it is unset.
    pub fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name)
    }

    /// A variable as text; `None` if it is unset, empty or not UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = self.get(name)?.into_string().ok()?;
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_holds_no_text() {
        let variables = Variables::new(|name| (name == "EMPTY").then(OsString::new));
        assert_eq!(variables.get("EMPTY"), Some(OsString::new()));
        assert_eq!(variables.text("EMPTY"), None);
        assert_eq!(variables.text("OTHER"), None);
    }
}
