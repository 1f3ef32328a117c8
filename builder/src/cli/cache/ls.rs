//! `ashlar cache ls`.

use clap::Args;

use crate::cli::Format;
use crate::cli::value::CacheArg;

/// List the results in a shared cache, those used last first.
///
/// KIND is what a result is found by: the definition of a step down to its base image, the content
/// of what the step is made from, or the instruction alone, which only says that it ever ran.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar cache ls
  ashlar cache ls --cache grpc://cache:8980 --limit 20
  ashlar cache ls --format json")]
pub struct LsArgs {
    /// The cache, as for `ashlar build`; may be repeated [default: those of $ASHLAR_CACHE, else of
    /// the configuration file]
    #[arg(long = "cache", value_name = "URL[,OPTIONS]")]
    pub caches: Vec<CacheArg>,

    /// The most results of each cache that are listed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,

    /// How the list is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}
