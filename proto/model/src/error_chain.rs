//! An error and its causes as one line.

use std::error::Error;

/// An error's message and those of its causes, with colons between. A cause that was said already
/// is left out: many errors repeat theirs.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Said {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn causes_follow_once_each() {
        let mut error: Option<Box<Said>> = None;
        for text in ["no such file", "cannot read: no such file", "cannot build"] {
            let source = error.take();
            error = Some(Box::new(Said { text, source }));
        }
        let chain = error_chain(&error.unwrap());
        assert_eq!(chain, "cannot build: cannot read: no such file");
    }
}
