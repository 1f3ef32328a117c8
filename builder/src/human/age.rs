//! How long ago something was, in one rounded unit.

use ashlar_model::layer::Timestamp;

/// `3 days ago`, in Docker's words (`go-units`, `HumanDuration`).
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.seconds.saturating_sub(then.seconds).max(0);
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    let words = match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1460) => format!("{} weeks", hours / 24 / 7),
        (.., 1460..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    };
    format!("{words} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_grows_with_the_age() {
        let at = |seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        };
        for (seconds, shown) in [
            (-5, "Less than a second ago"),
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (150, "2 minutes ago"),
            (3600, "About an hour ago"),
            (7200, "2 hours ago"),
            (3 * 86400, "3 days ago"),
            (20 * 86400, "2 weeks ago"),
            (90 * 86400, "3 months ago"),
            (1000 * 86400, "2 years ago"),
        ] {
            assert_eq!(age(at(0), at(seconds)), shown, "{seconds}");
        }
    }
}
