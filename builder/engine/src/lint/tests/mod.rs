//! Each rule by its name, with what breaks it and what does not. The cases are those that BuildKit
//! tests its rules with, and some more.

mod idioms;
mod planned;
mod text;

use std::sync::Mutex;

use crate::event::{BuildEvent, EventSink};

/// Keeps findings as their displays.
#[derive(Default)]
struct Findings(Mutex<Vec<String>>);

impl Findings {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl EventSink for Findings {
    fn emit(&self, event: BuildEvent) {
        if let BuildEvent::Finding(finding) = event {
            self.0.lock().unwrap().push(finding.to_string());
        }
    }
}
