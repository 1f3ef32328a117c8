//! `ashlar cache stats`.

use clap::Args;

use crate::cli::Format;
use crate::cli::value::CacheArg;

/// Show what the shared caches hold, and whether they answer.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar cache stats
  ashlar cache stats --cache grpcs://cache.example.com,instance=main --format json")]
pub struct StatsArgs {
    /// The cache, as for `ashlar build`; may be repeated [default: those of $ASHLAR_CACHE, else of
    /// the configuration file]
    #[arg(long = "cache", value_name = "URL[,OPTIONS]")]
    pub caches: Vec<CacheArg>,

    /// How the table is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}
