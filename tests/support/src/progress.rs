//! What `--progress plain` said.
//!
//! ```text
//! #5 [stage 2/4] RUN make        a step and its number
//! #5 0.123 output                a line of its output, after so many seconds
//! #5 CACHED                      how it ended: CACHED, DONE 0.1s, ERROR: why, CANCELED
//! ```

use std::collections::BTreeMap;

/// The steps of one build.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    steps: BTreeMap<u32, Step>,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// What follows its number where it is named.
    pub name: String,
    /// The lines of its output.
    pub output: Vec<String>,
    /// How it ended; `None` if nothing says so.
    pub end: Option<End>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing was to be done.
    Cached,
    /// It was done.
    Done,
    /// It failed.
    Error(String),
    /// It was called off.
    Canceled,
}

impl Progress {
    /// Reads standard error; lines of another form are passed over.
    pub fn parse(text: &str) -> Self {
        let mut progress = Self::default();
        for line in text.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| {
                let (number, rest) = line.split_once(' ')?;
                Some((number.parse().ok()?, rest))
            }) else {
                continue;
            };
            progress.steps.entry(number).or_default().note(rest);
        }
        progress
    }

    /// The steps whose name contains some text.
    pub fn named(&self, text: &str) -> Vec<&Step> {
        self.steps
            .values()
            .filter(|step| step.name.contains(text))
            .collect()
    }

    /// The one step whose name contains some text.
    #[track_caller]
    pub fn step(&self, text: &str) -> &Step {
        match self.named(text).as_slice() {
            [step] => step,
            found => panic!("{} steps are named {text:?}: {self:#?}", found.len()),
        }
    }

    /// Whether some step wrote a line.
    pub fn has_output(&self, line: &str) -> bool {
        self.steps
            .values()
            .any(|step| step.output.iter().any(|own| own == line))
    }

    /// The names of the steps of the Dockerfile (those that make a layer) that ended in some way.
    fn ended(&self, wanted: impl Fn(&End) -> bool) -> Vec<&str> {
        self.steps
            .values()
            .filter(|step| step.end.as_ref().is_some_and(&wanted))
            .filter_map(Step::instruction)
            .collect()
    }

    /// The instructions that were run: `RUN make`, `COPY a b`.
    pub fn ran(&self) -> Vec<&str> {
        self.ended(|end| *end == End::Done)
    }

    /// The instructions that were cached.
    pub fn cached(&self) -> Vec<&str> {
        self.ended(|end| *end == End::Cached)
    }

    /// Asserts which instructions were run, in any order, each by its beginning; the others that
    /// were told of must be cached, and at least one instruction must have been told of.
    #[track_caller]
    pub fn assert_ran(&self, wanted: &[&str]) {
        let ran = self.ran();
        let all_found = wanted
            .iter()
            .all(|wanted| ran.iter().filter(|ran| ran.starts_with(wanted)).count() == 1);
        assert!(
            all_found && ran.len() == wanted.len(),
            "there should have been run {wanted:?}, but these were: {ran:?}\n{self:#?}"
        );
        assert!(
            !ran.is_empty() || !self.cached().is_empty(),
            "no step was told of"
        );
    }
}

impl Step {
    fn note(&mut self, rest: &str) {
        let timed = rest
            .split_once(' ')
            .filter(|(time, _)| time.parse::<f64>().is_ok());
        if rest == "CACHED" {
            self.end = Some(End::Cached);
        } else if rest == "CANCELED" {
            self.end = Some(End::Canceled);
        } else if let Some(why) = rest.strip_prefix("ERROR: ") {
            self.end = Some(End::Error(why.to_owned()));
        } else if rest
            .strip_prefix("DONE ")
            .is_some_and(|time| time.ends_with('s'))
        {
            self.end = Some(End::Done);
        } else if let Some((_, line)) = timed {
            self.output.push(line.to_owned());
        } else if self.name.is_empty() {
            rest.clone_into(&mut self.name);
        }
    }

    /// The instruction, if this is a step of a Dockerfile: `[stage 2/4] RUN make` is `RUN make`, and
    /// so is `[stage 2/4] ONBUILD RUN make`.
    pub fn instruction(&self) -> Option<&str> {
        let (place, instruction) = self.name.strip_prefix('[')?.split_once("] ")?;
        let instruction = instruction.strip_prefix("ONBUILD ").unwrap_or(instruction);
        let word = instruction.split(' ').next()?;
        (place.contains('/') && ["RUN", "COPY", "ADD", "WORKDIR"].contains(&word))
            .then_some(instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_from_plain_progress() {
        let progress = Progress::parse(
            "#1 [internal] load build definition\n#1 DONE 0.0s\n\n\
             #2 [one 1/3] FROM base\n#2 CACHED\n\n\
             #3 [one 2/3] RUN echo hi\n#4 [2/2] COPY a b\n#3 0.123 hi\n#3 0.2 1.5 x\n\
             #4 CACHED\n#3 DONE 0.1s\n#6 [2/3] ONBUILD COPY . .\n#6 CACHED\n#5 [3/3] RUN false\n#5 ERROR: exit code: 1\nerror: no\n",
        );
        assert_eq!(progress.ran(), ["RUN echo hi"]);
        assert_eq!(progress.cached(), ["COPY a b", "COPY . ."]);
        assert_eq!(progress.step("echo hi").output, ["hi", "1.5 x"]);
        assert_eq!(
            progress.step("RUN false").end,
            Some(End::Error("exit code: 1".to_owned()))
        );
        progress.assert_ran(&["RUN echo"]);
    }
}
