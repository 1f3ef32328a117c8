//! Ports, as EXPOSE takes them. Source: BuildKit, `parsePortSpec`, whose messages these are.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::plan::error::PlanError;

/// What a port may be, for errors.
const HINT: &str =
    "a port is a number or a range such as 8000-8010, perhaps with /tcp, /udp or /sctp";

/// One word of EXPOSE: `[[address:]host port:]port[-port][/protocol]`, each port of the container
/// as `port/protocol`. What stands before the container's port is checked and means nothing.
pub(super) fn exposed_ports(word: &str) -> Result<Vec<String>, PlanError> {
    let bad = |message: String| PlanError::new(message).hinted(HINT);
    let (host, container) = match word.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, word),
    };
    let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    if ports.is_empty() {
        return Err(bad(format!("no port specified: {container}<empty>")));
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => return Err(bad(format!("invalid proto: {other}"))),
    };
    let (address, host_ports) = match host.and_then(|host| host.rsplit_once(':')) {
        Some((address, host_ports)) => (address, host_ports),
        None => ("", host.unwrap_or_default()),
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(bad(format!("invalid IP address: {bare}")));
    }
    let range = port_range(ports).ok_or_else(|| bad(format!("invalid containerPort: {ports}")))?;
    if !host_ports.is_empty() {
        let on_host =
            port_range(host_ports).ok_or_else(|| bad(format!("invalid hostPort: {host_ports}")))?;
        if range.len() > 1 && on_host.len() != range.len() {
            return Err(bad(format!(
                "invalid ranges specified for container and host Ports: {ports} and {host_ports}"
            )));
        }
    }
    Ok(range.map(|port| format!("{port}/{protocol}")).collect())
}

/// `80` or `8000-8010`.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_ranges_and_protocols() {
        for (word, expected) in [
            ("80", &["80/tcp"][..]),
            ("0", &["0/tcp"]),
            ("80/", &["80/tcp"]),
            ("1-3/UDP", &["1/udp", "2/udp", "3/udp"]),
            ("9/sctp", &["9/sctp"]),
            ("8080:80", &["80/tcp"]),
            ("127.0.0.1:80:8080", &["8080/tcp"]),
            ("127.0.0.1::8080", &["8080/tcp"]),
            ("[::1]:80:8080/udp", &["8080/udp"]),
            ("2000-2001:80", &["80/tcp"]),
            ("2000-2001:80-81", &["80/tcp", "81/tcp"]),
        ] {
            assert_eq!(exposed_ports(word).unwrap(), expected, "{word}");
        }
        assert_eq!(exposed_ports("0-65535").unwrap().len(), 65_536);
    }

    #[test]
    fn what_is_no_port_is_named() {
        for (word, message) in [
            ("", "no port specified: <empty>"),
            ("/tcp", "no port specified: /tcp<empty>"),
            ("x", "invalid containerPort: x"),
            ("+1", "invalid containerPort: +1"),
            ("80/icmp", "invalid proto: icmp"),
            ("3-1", "invalid containerPort: 3-1"),
            ("1-2-3", "invalid containerPort: 1-2-3"),
            ("65536", "invalid containerPort: 65536"),
            ("1-", "invalid containerPort: 1-"),
            ("x:1", "invalid hostPort: x"),
            ("nowhere:1:1", "invalid IP address: nowhere"),
            (
                "1-3:1-2",
                "invalid ranges specified for container and host Ports: 1-2 and 1-3",
            ),
        ] {
            assert_eq!(exposed_ports(word).unwrap_err().to_string(), message);
        }
    }
}
