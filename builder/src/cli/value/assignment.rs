//! `NAME=VALUE` in its three kinds.

use std::str::FromStr;

/// Why a text is no assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` has no name before the `=`")]
pub struct AssignmentError(String);

fn split(text: &str) -> Result<(String, Option<String>), AssignmentError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(AssignmentError(text.chars().take(120).collect()));
    }
    Ok((name.to_owned(), value))
}

/// `--build-arg NAME[=VALUE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildArg {
    /// Name of the ARG.
    pub name: String,
    /// Its value; `None` takes it from the environment, and nothing if it is unset there.
    pub value: Option<String>,
}

impl FromStr for BuildArg {
    type Err = AssignmentError;

    fn from_str(text: &str) -> Result<Self, AssignmentError> {
        let (name, value) = split(text)?;
        Ok(Self { name, value })
    }
}

/// `--env NAME[=VALUE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentVariable {
    /// Its name.
    pub name: String,
    /// Its value; `None` takes it from the environment, and nothing if it is unset there.
    pub value: Option<String>,
}

impl FromStr for EnvironmentVariable {
    type Err = AssignmentError;

    fn from_str(text: &str) -> Result<Self, AssignmentError> {
        let (name, value) = split(text)?;
        Ok(Self { name, value })
    }
}

/// `--label NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub name: String,
    /// Its value; empty if there is no `=`, as Docker has it.
    pub value: String,
}

impl FromStr for Label {
    type Err = AssignmentError;

    fn from_str(text: &str) -> Result<Self, AssignmentError> {
        let (name, value) = split(text)?;
        Ok(Self {
            name,
            value: value.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_is_not_an_empty_one() {
        assert_eq!("A".parse::<BuildArg>().unwrap().value, None);
        assert_eq!("A=".parse::<BuildArg>().unwrap().value.as_deref(), Some(""));
        assert_eq!(
            "A=b=c"
                .parse::<EnvironmentVariable>()
                .unwrap()
                .value
                .as_deref(),
            Some("b=c")
        );
        assert_eq!("k".parse::<Label>().unwrap().value, "");
    }

    #[test]
    fn a_name_is_needed() {
        for text in ["", "=", "=x"] {
            text.parse::<BuildArg>().unwrap_err();
            text.parse::<Label>().unwrap_err();
        }
    }
}
