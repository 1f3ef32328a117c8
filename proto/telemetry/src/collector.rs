//! Where traces are sent.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The text that stands for the address in the environment.
const ENVIRONMENT: &str = "env";

/// A collector that speaks OTLP over gRPC, as it is named on a command line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Collector {
    /// The one that `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` names.
    Environment,
    /// The one at this address, `http://HOST:PORT` or `https://HOST:PORT`.
    At(String),
}

/// A text that names no collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address of a collector of traces: write http://HOST:PORT, https://HOST:PORT, or \
     env for that in OTEL_EXPORTER_OTLP_ENDPOINT"
)]
pub struct CollectorError(String);

/// The environment was to name a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_ENDPOINT is not set, and traces were to be sent there")]
pub struct NoEndpoint;

impl Collector {
    /// Variables that may name the collector, the first that is set first.
    pub const VARIABLES: [&str; 2] = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];

    /// The address. `variable` looks variables of the environment up.
    pub fn address(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::At(address) => Ok(address.clone()),
            Self::Environment => {
                let mut named = Self::VARIABLES.iter().filter_map(|name| variable(name));
                let named = named.next().filter(|text| !text.is_empty());
                let text = named.ok_or(NoEndpoint)?;
                check(&text)?;
                Ok(text)
            }
        }
    }
}

/// Fails if a text is no address.
fn check(text: &str) -> Result<(), CollectorError> {
    let wrong = || CollectorError(text.to_owned());
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or_else(wrong)?;
    // Names and passwords have no place in an address that is shown.
    if rest.is_empty() || rest.contains('@') || text.parse::<tonic::transport::Uri>().is_err() {
        return Err(wrong());
    }
    Ok(())
}

impl FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        if text == ENVIRONMENT {
            return Ok(Self::Environment);
        }
        check(text)?;
        Ok(Self::At(text.to_owned()))
    }
}

impl TryFrom<String> for Collector {
    type Error = CollectorError;

    fn try_from(text: String) -> Result<Self, CollectorError> {
        text.parse()
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str(ENVIRONMENT),
            Self::At(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_http() {
        for good in ["http://localhost:4317", "https://otel.example.com", "env"] {
            let collector: Collector = good.parse().expect(good);
            assert_eq!(collector.to_string(), good);
        }
        for wrong in [
            "",
            "localhost:4317",
            "grpc://x:1",
            "http://",
            "http://a:b@c",
            "http://a b",
        ] {
            let error = wrong.parse::<Collector>().expect_err(wrong);
            assert!(error.to_string().contains("http://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn the_environment_names_one_if_it_is_to() {
        let set = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://a:1".into());
        assert_eq!(
            Collector::Environment.address(set).expect("set"),
            "http://a:1"
        );
        let at = Collector::At("http://b:2".to_owned());
        assert_eq!(at.address(set).expect("given"), "http://b:2");
        let none = Collector::Environment.address(|_| None).expect_err("unset");
        assert!(none.to_string().contains("is not set"), "{none}");
        let wrong = Collector::Environment.address(|_| Some("x".into()));
        assert!(
            wrong
                .expect_err("wrong")
                .to_string()
                .contains("`x` is no address")
        );
    }
}
