//! `--remote`.

use std::str::FromStr;

use ashlar_remote::address::{FarmAddressError, FarmSpec};
use clap::Args;

/// A farm, or none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FarmArg {
    /// No farm, whatever the environment and the configuration say.
    None,
    /// This one.
    Farm(Box<FarmSpec>),
}

/// The farm of a command that works with nothing else.
#[derive(Debug, Clone, Default, Args)]
pub struct FarmArgs {
    /// The farm, as for `ashlar build` [default: $ASHLAR_REMOTE, else as the configuration file
    /// says]
    #[arg(long, value_name = "URL[,OPTIONS]")]
    pub remote: Option<FarmArg>,
}

impl FromStr for FarmArg {
    type Err = FarmAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(|spec| Self::Farm(Box::new(spec))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_farm_is_a_farm_too() {
        assert_eq!("none".parse(), Ok(FarmArg::None));
        let farm: FarmArg = "grpc://a:1,instance=x".parse().unwrap();
        assert!(matches!(farm, FarmArg::Farm(_)));
        "somewhere".parse::<FarmArg>().unwrap_err();
    }
}
