//! The file: lines are only ever added to it.
//!
//! It is opened anew after [`AuditLog::reopen`], so that it can be moved away and packed. A disk
//! that is full, or a file that cannot be opened, loses events: they are counted, and writing is
//! tried again with the next one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

use ashlar_store::clock::Clock;
use serde::Deserialize;

use super::event::{Event, What};
use super::queue::{Audit, CAPACITY, Item, Queue};

/// Lines that are written together, at most.
const BATCH: usize = 256;

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum AuditFile {
    /// Standard error, between the lines of the log.
    StandardError,
    /// A file.
    File(PathBuf),
}

impl From<String> for AuditFile {
    fn from(text: String) -> Self {
        if text == "-" {
            Self::StandardError
        } else {
            Self::File(text.into())
        }
    }
}

impl FromStr for AuditFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "an audit log without a name: write a path, or - for standard error".into(),
            );
        }
        Ok(text.to_owned().into())
    }
}

impl fmt::Display for AuditFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardError => f.write_str("-"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("cannot open the audit log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("cannot start a thread for the audit log")]
    Thread(#[source] io::Error),
}

/// Where lines go.
enum Target {
    StandardError,
    File { path: PathBuf, file: Option<File> },
}

impl Target {
    fn open(file: &AuditFile) -> Result<Self, AuditError> {
        let AuditFile::File(path) = file else {
            return Ok(Self::StandardError);
        };
        let opened = open(path).map_err(|source| AuditError::Open {
            path: path.clone(),
            source,
        })?;
        Ok(Self::File {
            path: path.clone(),
            file: Some(opened),
        })
    }

    fn close(&mut self) {
        if let Self::File { file, .. } = self {
            *file = None;
        }
    }

    /// Opens the file, if it is not open.
    fn ready(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self
            && file.is_none()
        {
            *file = Some(open(path)?);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::StandardError => io::stderr().write_all(bytes),
            Self::File { file, .. } => match file {
                Some(file) => file.write_all(bytes),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }
}

/// Its owner writes, its group reads: it names people and what they build.
fn open(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640).open(path)
}

/// An audit log that is being written. Dropping it writes what is left.
#[derive(Debug)]
pub struct AuditLog {
    audit: Audit,
    reopen: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Checks that a log can be written, without writing any.
    pub fn check(file: &AuditFile) -> Result<(), AuditError> {
        Target::open(file).map(drop)
    }

    /// Starts to write.
    pub fn start(file: &AuditFile, clock: Clock) -> Result<Self, AuditError> {
        let target = Target::open(file)?;
        let (audit, queue) = Audit::queue(CAPACITY, clock.clone());
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            queue,
            audit: audit.clone(),
            target,
            reopen: reopen.clone(),
            clock,
            is_torn: false,
        };
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(AuditError::Thread)?;
        Ok(Self {
            audit,
            reopen,
            thread: Some(thread),
        })
    }

    /// For those who note events.
    pub fn audit(&self) -> Audit {
        self.audit.clone()
    }

    /// Opens the file anew before the next line.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        self.audit.wake();
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.audit.end();
        if let Some(thread) = self.thread.take() {
            // A writer that has failed has said so.
            let _failed = thread.join();
        }
    }
}

struct Writer {
    queue: Queue,
    audit: Audit,
    target: Target,
    reopen: Arc<AtomicBool>,
    clock: Clock,
    /// Whether the last line may have been written in part.
    is_torn: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Asked before the queue is emptied: what was noted before the end is in it by then.
            let is_over = self.queue.is_over();
            let mut next = if is_over {
                self.queue.next_item()
            } else {
                self.queue.wait()
            };
            if next.is_none() {
                break;
            }
            let mut lines = Vec::new();
            let mut count = 0;
            while let Some(item) = next {
                if let Item::Event(event, time) = item {
                    lines.extend_from_slice(&event.line(time));
                    count += 1;
                }
                next = if count < BATCH {
                    self.queue.next_item()
                } else {
                    None
                };
            }
            if self.reopen.swap(false, Ordering::AcqRel) {
                self.target.close();
            }
            self.write(lines, count);
        }
        // What was lost at the very end.
        self.write(Vec::new(), 0);
    }

    /// Writes lines, and how many are missing before them.
    fn write(&mut self, mut lines: Vec<u8>, count: usize) {
        let lost = self.queue.lost();
        if lost > 0 {
            tracing::warn!(count = lost, "events are missing from the audit log");
            let now: SystemTime = (self.clock)();
            let line = Event::of_server(What::Lost).with("count", lost).line(now);
            lines.splice(0..0, line);
        }
        if lines.is_empty() {
            return;
        }
        if self.is_torn {
            lines.insert(0, b'\n');
        }
        let written = self.target.ready().and_then(|()| {
            self.is_torn = true;
            self.target.write(&lines)
        });
        match written {
            Ok(()) => self.is_torn = false,
            Err(error) => {
                tracing::error!("cannot write the audit log: {error}");
                self.target.close();
                // Those that were lost before are told of again.
                self.audit.lose(lost + count as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn start(path: &Path) -> AuditLog {
        let file = AuditFile::File(path.to_owned());
        AuditLog::start(&file, Arc::new(|| UNIX_EPOCH)).expect("started")
    }

    fn events(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("a log");
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                let read: serde_json::Value = serde_json::from_str(line).expect("JSON");
                read["event"].as_str().expect("an event").to_owned()
            })
            .collect()
    }

    #[test]
    fn everything_is_written_before_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        for _ in 0..2 {
            let log = start(&path);
            for _ in 0..1000 {
                log.audit().note(Event::new(What::Pin));
            }
        }
        assert_eq!(events(&path).len(), 2000);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = start(&path);
        log.audit().note(Event::new(What::Pin));
        // The event is in the file that it was noted for, if the file is moved after it is there.
        while events(&path).is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &moved).expect("moved");
        log.reopen();
        log.audit().note(Event::new(What::Unpin));
        drop(log);
        assert_eq!(events(&moved), ["pin"]);
        assert_eq!(events(&path), ["unpin"]);
    }

    #[test]
    fn what_could_not_be_written_is_told_of_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inner, away) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&inner).expect("a folder");
        let path = inner.join("log");
        let log = start(&path);
        std::fs::rename(&inner, &away).expect("moved");
        log.reopen();
        log.audit().note(Event::new(What::Pin));
        while log.audit().lost() == 0 {
            std::thread::yield_now();
        }
        std::fs::create_dir(&inner).expect("a folder");
        log.audit().note(Event::new(What::Unpin));
        drop(log);
        assert_eq!(events(&path), ["lost", "unpin"]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let file = AuditFile::File("/nowhere/audit.log".into());
        let error = AuditLog::check(&file).expect_err("no folder");
        assert_eq!(
            error.to_string(),
            "cannot open the audit log /nowhere/audit.log"
        );
    }
}
