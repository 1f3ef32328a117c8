//! The error of a store whose quota is full.

use std::fmt;
use std::io;

use ashlar_model::size::HumanSize;

/// The quota leaves no room for something, and nothing more can be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaFull {
    /// The quota, in bytes.
    pub limit: u64,
    /// How many bytes more were asked for.
    pub wanted: u64,
    /// Bytes that all of the store takes.
    pub used: u64,
    /// Of these, bytes that images with a name need.
    pub images: u64,
    /// Of these, bytes that only running builds need: layers that they found or made, and files
    /// that they are writing.
    pub builds: u64,
    /// Whether builds that began before there was a quota keep everything from being evicted.
    pub blocked: bool,
}

impl QuotaFull {
    /// What to do about it.
    pub fn hint(&self) -> String {
        if self.blocked {
            return "builds that began before the quota was set keep everything in the store: wait \
                    until they have ended"
                .to_owned();
        }
        "remove images with `ashlar rmi`, wait for other builds to end, or set a larger quota with \
         --store-quota"
            .to_owned()
    }

    /// How many bytes can still be admitted.
    pub const fn room(&self) -> u64 {
        super::usable(self.limit).saturating_sub(self.used)
    }

    /// The quota error that an error of the operating system stands for, if it does.
    pub fn of_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for QuotaFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.used.saturating_sub(self.images + self.builds);
        write!(
            f,
            "the store's quota is full: {} more do not fit into {}, of which {} are used: {} by \
             images with a name, {} by running builds, {} by what else cannot be evicted",
            HumanSize(self.wanted),
            HumanSize(self.limit),
            HumanSize(self.used),
            HumanSize(self.images),
            HumanSize(self.builds),
            HumanSize(other),
        )
    }
}

impl std::error::Error for QuotaFull {}

impl From<QuotaFull> for io::Error {
    fn from(full: QuotaFull) -> Self {
        Self::new(io::ErrorKind::QuotaExceeded, full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_much_there_is_and_who_has_it() {
        let full = QuotaFull {
            limit: 1_000_000,
            wanted: 300_000,
            used: 900_000,
            images: 500_000,
            builds: 150_000,
            blocked: false,
        };
        assert_eq!(
            full.to_string(),
            "the store's quota is full: 300kB more do not fit into 1MB, of which 900kB are used: \
             500kB by images with a name, 150kB by running builds, 250kB by what else cannot be \
             evicted"
        );
        assert!(full.hint().contains("--store-quota"));
        let error = io::Error::from(full);
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(QuotaFull::of_io(&error), Some(&full));
        assert_eq!(QuotaFull::of_io(&io::ErrorKind::StorageFull.into()), None);
    }
}
