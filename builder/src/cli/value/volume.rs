//! `--volume`.

use std::path::PathBuf;
use std::str::FromStr;

/// A directory or file of this machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// Where it is on this machine; relative to the current directory if not absolute.
    pub source: PathBuf,
    /// Where the container sees it, absolute.
    pub destination: String,
    /// Whether the container cannot write to it.
    pub read_only: bool,
}

impl FromStr for VolumeMount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = || text.chars().take(120).collect::<String>();
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options),
            _ => {
                return Err(format!(
                    "`{}` is no volume: write SOURCE:DESTINATION[:ro]",
                    shown()
                ));
            }
        };
        if !source.contains('/') && source != "." && source != ".." {
            return Err(format!(
                "`{source}` is no path, and volumes with names are not supported: write ./{source}"
            ));
        }
        if !destination.starts_with('/') || destination == "/" {
            return Err(format!(
                "`{destination}` is no place for a volume: write an absolute path below `/`"
            ));
        }
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                // SELinux labels, which Docker sets on these; nothing here needs them.
                "z" | "Z" => {}
                other => {
                    return Err(format!(
                        "`{other}` is no option of a volume: it is `ro` or `rw`"
                    ));
                }
            }
        }
        Ok(Self {
            source: PathBuf::from(source),
            destination: destination.to_owned(),
            read_only,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_may_be_read_only() {
        let volume: VolumeMount = "./src:/src:ro".parse().unwrap();
        assert_eq!(volume.source, PathBuf::from("./src"));
        assert_eq!(volume.destination, "/src");
        assert!(volume.read_only);
        assert!(!"/a:/b".parse::<VolumeMount>().unwrap().read_only);
        assert!(!".:/b:rw,z".parse::<VolumeMount>().unwrap().read_only);
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        for text in [
            "",
            "/a",
            "data:/b",
            "/a:b",
            "/a:/",
            "/a:/b:ro:x",
            "/a:/b:wo",
        ] {
            text.parse::<VolumeMount>().unwrap_err();
        }
    }
}
