//! `--call`.

use std::str::FromStr;

/// What is done with the build that the command line describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// It is built.
    #[default]
    Build,
    /// Its Dockerfile is linted.
    Check,
    /// What it can be given is listed.
    Outline,
    /// Its stages are listed.
    Targets,
    /// These methods are listed.
    Describe,
}

/// `METHOD[,format=json][,ignorestatus=true]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// What is done.
    pub method: Method,
    /// The answer is JSON, for programs.
    pub json: bool,
    /// Warnings of a check do not make the command fail.
    pub ignore_status: bool,
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut call = Self::default();
        let mut method = None;
        for field in text.split(',') {
            let Some((name, value)) = field.split_once('=') else {
                if method.replace(parse_method(field)?).is_some() {
                    return Err(format!("`{field}` is a second method: give one"));
                }
                continue;
            };
            match name {
                "format" => {
                    call.json = match value {
                        "json" => true,
                        "text" => false,
                        _ => {
                            return Err(format!(
                                "format `{value}` is not known: it is json or text"
                            ));
                        }
                    };
                }
                "ignorestatus" => {
                    call.ignore_status = value
                        .parse()
                        .map_err(|_| format!("ignorestatus is true or false, not `{value}`"))?;
                }
                _ => {
                    return Err(format!(
                        "there is no field `{name}`: the fields are format and ignorestatus"
                    ));
                }
            }
        }
        call.method = method.unwrap_or_default();
        Ok(call)
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    Ok(match text {
        "build" => Method::Build,
        // buildx has both names, for one was the first.
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        "subrequests.describe" => Method::Describe,
        _ => {
            return Err(format!(
                "there is no method `{text}`: the methods are build, check, outline, targets and \
                 subrequests.describe"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_fields_are_read() {
        let call = |method, json, ignore_status| Call {
            method,
            json,
            ignore_status,
        };
        for (text, expected) in [
            ("build", Call::default()),
            ("check", call(Method::Check, false, false)),
            ("lint,format=json", call(Method::Check, true, false)),
            (
                "format=text,check,ignorestatus=true",
                call(Method::Check, false, true),
            ),
            ("outline,format=json", call(Method::Outline, true, false)),
            ("targets", call(Method::Targets, false, false)),
            ("subrequests.describe", call(Method::Describe, false, false)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("lnit", "lnit"),
            ("check,targets", "second"),
            ("check,format=xml", "xml"),
            ("check,colour=no", "colour"),
            ("check,ignorestatus=perhaps", "perhaps"),
            ("", "methods"),
        ] {
            let error = text.parse::<Call>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
