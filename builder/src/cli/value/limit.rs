//! `--ulimit` and `--allow`.

use ashlar_model::step::Ulimit;

/// Names of limits (Docker: `go-units`, `ulimit.go`).
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; `-1` stands for no limit, and a hard limit that is not given is the soft
/// one.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let shown = || text.chars().take(120).collect::<String>();
    let bad = || {
        format!(
            "`{}` is no limit: write NAME=SOFT[:HARD], such as nofile=1024:4096",
            shown()
        )
    };
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    if !LIMITS.contains(&name) {
        return Err(format!(
            "there is no limit `{}`: they are {}",
            name.chars().take(40).collect::<String>(),
            LIMITS.join(", ")
        ));
    }
    let number = |text: &str| match text {
        "-1" => Ok(None),
        text => text.parse().map(Some).map_err(|_| bad()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    let above = match (soft, hard) {
        (Some(soft), Some(hard)) => soft > hard,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if above {
        return Err(format!(
            "`{}`: the soft limit must not be above the hard one",
            shown()
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// What a Dockerfile may ask for with the user's consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entitlement {
    /// `RUN --network=host` in a build that has no network
    NetworkHost,
    /// `RUN --security=insecure`
    SecurityInsecure,
}

/// `network.host` or `security.insecure`.
pub fn entitlement(text: &str) -> Result<Entitlement, String> {
    match text {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        text if text == "device" || text.starts_with("device=") => {
            Err("devices are not supported by this version of Ashlar".to_owned())
        }
        text => Err(format!(
            "`{}` is nothing to allow: it is network.host or security.insecure",
            text.chars().take(80).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_soft_and_a_hard_value() {
        for (text, soft, hard) in [
            ("nofile=10:20", Some(10), Some(20)),
            ("nofile=10", Some(10), Some(10)),
            ("core=-1", None, None),
            ("core=0:-1", Some(0), None),
        ] {
            let limit = ulimit(text).unwrap();
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{text}");
        }
        for text in [
            "",
            "nofile",
            "nofile=",
            "nofile=x",
            "files=1",
            "core=2:1",
            "core=-1:5",
            "core=1:2:3",
        ] {
            ulimit(text).unwrap_err();
        }
    }

    #[test]
    fn what_may_be_allowed_is_known() {
        assert_eq!(
            entitlement("security.insecure"),
            Ok(Entitlement::SecurityInsecure)
        );
        assert_eq!(entitlement("network.host"), Ok(Entitlement::NetworkHost));
        assert!(entitlement("device=x").unwrap_err().contains("devices"));
        assert!(entitlement("all").unwrap_err().contains("network.host"));
    }
}
