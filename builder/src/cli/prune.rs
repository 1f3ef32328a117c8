//! `ashlar prune`.

use clap::Args;

use super::Format;
use super::value::Size;

/// Remove what is no longer needed from the local store.
///
/// Removes what neither a named image nor a cached result needs, and what broken builds and
/// downloads have left. While builds run, only the latter. On a terminal it asks first.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar prune                             only what nobody can use any more
  ashlar prune --all                       also cached results that no image needs, and cache mounts
  ashlar prune --keep-storage 20GB         those too, oldest first, until 20 GB are left")]
pub struct PruneArgs {
    /// Remove also cached results that no named image needs, and what cache mounts hold
    #[arg(short, long)]
    pub all: bool,

    /// Remove cached results, the longest unused first, only until the store is not larger than
    /// this; units are powers of 1024, as Docker has them
    #[arg(long, value_name = "SIZE")]
    pub keep_storage: Option<Size>,

    /// Remove only things of one kind: `type=exec.cachemount`, what RUN --mount=type=cache keeps
    #[arg(long, value_name = "type=KIND", value_parser = filter,
          conflicts_with_all = ["all", "keep_storage"])]
    pub filter: Option<PruneFilter>,

    /// Do not ask
    #[arg(short, long)]
    pub force: bool,

    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// A kind of thing, by BuildKit's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneFilter {
    /// `type=exec.cachemount`
    CacheMounts,
}

fn filter(text: &str) -> Result<PruneFilter, String> {
    match text {
        "type=exec.cachemount" | "type==exec.cachemount" => Ok(PruneFilter::CacheMounts),
        other => Err(format!(
            "`{}` is no filter: it is type=exec.cachemount",
            other.chars().take(80).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_mounts_can_be_chosen() {
        assert_eq!(filter("type=exec.cachemount"), Ok(PruneFilter::CacheMounts));
        filter("type=regular").unwrap_err();
    }
}
