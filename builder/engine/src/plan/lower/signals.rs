//! Names of signals, as STOPSIGNAL takes them.

/// The signals of Linux without `SIG`. Source: `moby/sys/signal`, which BuildKit and Docker ask.
const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Real-time signals have names with an offset, up to these: `RTMIN+15`, `RTMAX-14`.
const LAST_AFTER_RTMIN: u8 = 15;
const LAST_BEFORE_RTMAX: u8 = 14;

/// Whether a text is a signal: a number other than 0, or a name in any case, with or without
/// `SIG`. What number a system knows is for the machine that runs the container to say.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |base: &str, sign: char, last: u8| match name.strip_prefix(base) {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix(sign)
            .filter(|digits| !digits.starts_with(['0', '+']))
            .and_then(|digits| digits.parse::<u8>().ok())
            .is_some_and(|number| number <= last),
        None => false,
    };
    NAMES.contains(&name)
        || offset("RTMIN", '+', LAST_AFTER_RTMIN)
        || offset("RTMAX", '-', LAST_BEFORE_RTMAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for signal in [
            "9",
            "64",
            "200",
            "SIGKILL",
            "kill",
            "SigTerm",
            "RTMIN",
            "SIGRTMIN+3",
            "RTMIN+15",
            "RTMAX-1",
            "sigrtmax-14",
            "RTMAX",
        ] {
            assert!(is_signal(signal), "{signal}");
        }
        for signal in [
            "0",
            "",
            "SIG",
            "SIGWHAT",
            "RTMIN+16",
            "RTMIN+0",
            "RTMIN+01",
            "RTMAX-15",
            "RTMIN-1",
            "99999999999",
            "KILL ",
        ] {
            assert!(!is_signal(signal), "{signal}");
        }
    }
}
