//! The command line.

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// How often each is timed.
    pub(crate) rounds: usize,
    /// The rows; all if there are none.
    pub(crate) rows: Vec<String>,
    subjects: Option<Vec<String>>,
}

impl Arguments {
    /// Reads the arguments, the program's name left out.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self {
            rounds: 5,
            rows: Vec::new(),
            subjects: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => {
                    let value = value()?;
                    parsed.rounds = value
                        .parse()
                        .ok()
                        .filter(|rounds| *rounds > 0)
                        .ok_or(format!("{value} is no number of rounds"))?;
                }
                "--subjects" => {
                    parsed.subjects = Some(value()?.split(',').map(str::to_owned).collect());
                }
                flag if flag.starts_with('-') => return Err(format!("{flag} is not known")),
                row => parsed.rows.push(row.to_owned()),
            }
        }
        Ok(parsed)
    }

    /// Whether a row is to be measured.
    pub(crate) fn wants_row(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| row == name)
    }

    /// Whether a subject is to be measured. The floors are all one subject here.
    pub(crate) fn wants_subject(&self, subject: &str) -> bool {
        let family = subject.split([' ', ',']).next().unwrap_or(subject);
        let known = ["ashlar", "buildah"].contains(&family);
        let family = if known { family } else { "floor" };
        self.subjects
            .as_ref()
            .is_none_or(|subjects| subjects.iter().any(|wanted| wanted == family))
    }
}
