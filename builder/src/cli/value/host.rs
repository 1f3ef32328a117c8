//! `--add-host`.

use std::net::{IpAddr, Ipv4Addr};

use ashlar_model::step::ExtraHost;

/// `HOST:IP` or `HOST=IP`; IPv6 with or without brackets. `host-gateway` for the address stands
/// for this machine: with its own network that is the loopback address.
pub fn extra_host(text: &str) -> Result<ExtraHost, String> {
    let shown = || text.chars().take(120).collect::<String>();
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| format!("`{}` has no address: write HOST:IP or HOST=IP", shown()))?;
    let name_ok = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !name_ok {
        return Err(format!("`{}` has no host name before the address", shown()));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address = if bare == "host-gateway" {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        bare.parse().map_err(|_| {
            format!(
                "`{}` is no IP address: write HOST:IP or HOST=IP",
                bare.chars().take(120).collect::<String>()
            )
        })?
    };
    Ok(ExtraHost {
        name: name.to_owned(),
        address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_read() {
        for (text, name, address) in [
            ("db:10.0.0.1", "db", "10.0.0.1"),
            ("db=10.0.0.1", "db", "10.0.0.1"),
            ("my.db:::1", "my.db", "::1"),
            ("db=[fe80::1]", "db", "fe80::1"),
            ("db:[::1]", "db", "::1"),
            ("me:host-gateway", "me", "127.0.0.1"),
        ] {
            let host = extra_host(text).unwrap();
            assert_eq!(
                (host.name.as_str(), host.address.to_string().as_str()),
                (name, address)
            );
        }
    }

    #[test]
    fn a_line_cannot_be_smuggled_into_etc_hosts() {
        for text in [
            "",
            "db",
            "db:",
            ":1.2.3.4",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
            "db:1.2.3",
            "db:x",
        ] {
            extra_host(text).unwrap_err();
        }
    }
}
