//! The Dockerfile and the context, from directories or standard input.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ashlar_engine::context::{Context, ContextError, parse_ignore_file};
use ashlar_engine::dockerfile::{Dockerfile, ParseError, check_syntax, parse};
use ashlar_exec::layer::{Decompressor, is_tar_header};
use ashlar_model::layer::Timestamp;
use ashlar_model::select::PathRules;
use ashlar_store::home::Home;
use ashlar_store::home::quota::{Meter, on_disk};
use ashlar_store::home::scratch::Scratch;
use ashlar_workshop::sources::{OpenContext, stat_cache};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::report;
use crate::cli::build::BuildArgs;
use crate::diagnostics::CliError;

/// A Dockerfile is text that people write; more is something else given by mistake.
const MAX_DOCKERFILE: u64 = 16 * 1024 * 1024;

/// What a build reads.
#[derive(Debug)]
pub(super) struct Input {
    /// The Dockerfile, or why it is none.
    pub(super) parsed: Result<Dockerfile, ParseError>,
    /// `None` if only a Dockerfile came on standard input.
    pub(super) context: Option<Arc<OpenContext>>,
    /// Where a context from standard input was unpacked.
    unpacked: Option<Scratch>,
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(scratch) = &self.unpacked {
            // What cannot be removed now is swept later.
            drop(fs::remove_dir_all(scratch.path()));
        }
    }
}

/// The text of a Dockerfile, and its name for messages.
pub(super) struct Given {
    pub(super) name: String,
    pub(super) text: Vec<u8>,
}

impl Input {
    /// The Dockerfile.
    pub(super) fn dockerfile(&self) -> Result<&Dockerfile, CliError> {
        self.parsed.as_ref().map_err(report::parse_error)
    }

    /// An input whose Dockerfile and context are at hand.
    pub(super) fn new(given: &Given, frontend: Option<&str>, context: Option<OpenContext>) -> Self {
        Self {
            parsed: parsed(&given.name, &given.text, frontend),
            context: context.map(Arc::new),
            unpacked: None,
        }
    }

    /// Reads what the command line names. `frontend` is the build argument `BUILDKIT_SYNTAX`;
    /// `given` the Dockerfile, if it comes from elsewhere.
    pub(super) fn read(
        args: &BuildArgs,
        home: &Home,
        frontend: Option<&str>,
        given: Option<Given>,
    ) -> Result<Self, CliError> {
        if !args.context_is_stdin() {
            return Self::from_directory(&args.context, args, home, frontend, given);
        }
        let failed = |error| CliError::failed("cannot read standard input").caused_by(error);
        let mut plain = Decompressor::of_archive(io::stdin().lock()).map_err(failed)?;
        let start = plain.start(512).map_err(failed)?;
        if is_tar_header(&start) {
            let scratch = home.scratch()?;
            let directory = scratch.path().join("context");
            let archive = io::Cursor::new(start).chain(plain);
            let time = unpack(archive, &directory, "standard input", &home.meter())?;
            let given = match given {
                Some(given) => given,
                None => dockerfile_in(&directory, args)?,
            };
            // No ignore file has a say in an archive, as in BuildKit.
            let context = OpenContext {
                context: Context::open(&directory, PathRules::default(), None)
                    .map_err(of_context)?,
                modified: time.map(|time| time.seconds),
                meter: home.meter(),
            };
            let mut input = Self::new(&given, frontend, Some(context));
            input.unpacked = Some(scratch);
            return Ok(input);
        }
        let mut text = start;
        plain
            .take(MAX_DOCKERFILE)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if args.file.is_some() {
            return Err(CliError::usage(
                "standard input is no tar archive, so there is no context for --file to be in",
            ));
        }
        Ok(Self {
            parsed: parsed("Dockerfile", &text, frontend),
            context: None,
            unpacked: None,
        })
    }

    fn from_directory(
        directory: &Path,
        args: &BuildArgs,
        home: &Home,
        frontend: Option<&str>,
        given: Option<Given>,
    ) -> Result<Self, CliError> {
        let metadata = fs::metadata(directory).map_err(|error| {
            CliError::failed(format!(
                "cannot open the build context {}",
                directory.display()
            ))
            .caused_by(error)
        })?;
        if !metadata.is_dir() {
            return Err(CliError::failed(format!(
                "the build context {} is not a directory",
                directory.display()
            ))
            .hint("give the directory that holds the Dockerfile, or `-` for standard input"));
        }
        // The sandbox has another working directory.
        let directory = &absolute(directory);
        let (path, given) = match given {
            Some(given) => (None, given),
            None if args.file_is_stdin() => (None, dockerfile_of_stdin()?),
            None => {
                let path = dockerfile_path(directory, args)?;
                let text = read_text(fs::File::open(&path), &path.display().to_string())?;
                let name = match &args.file {
                    Some(_) => path.display().to_string(),
                    None => "Dockerfile".to_owned(),
                };
                (Some(path), Given { name, text })
            }
        };
        let parsed = parsed(&given.name, &given.text, frontend);
        let rules = ignore_rules(directory, path.as_deref())?;
        let cache = Some(stat_cache(home, directory));
        let context = Context::open(directory, rules, cache).map_err(of_context)?;
        let context = OpenContext {
            context,
            modified: None,
            meter: home.meter(),
        };
        Ok(Self {
            parsed,
            context: Some(Arc::new(context)),
            unpacked: None,
        })
    }
}

/// A context that cannot be opened.
pub(super) fn of_context(error: ContextError) -> CliError {
    let hint = error.hint();
    let error = CliError::of(crate::diagnostics::ErrorKind::Failed, error);
    hint.into_iter().fold(error, CliError::hint)
}

/// The Dockerfile on standard input.
pub(super) fn dockerfile_of_stdin() -> Result<Given, CliError> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_DOCKERFILE)
        .read_to_end(&mut text)
        .map_err(|error| {
            CliError::failed("cannot read the Dockerfile from standard input").caused_by(error)
        })?;
    let name = "Dockerfile".to_owned();
    Ok(Given { name, text })
}

/// The Dockerfile of a context that somebody else has made: `--file` is a path in it, unless it is
/// absolute and here. Links in it lead nowhere out of it.
pub(super) fn dockerfile_in(directory: &Path, args: &BuildArgs) -> Result<Given, CliError> {
    if args.file_is_stdin() {
        return dockerfile_of_stdin();
    }
    let path = match &args.file {
        Some(file) if file.is_absolute() && file.is_file() => {
            let name = file.display().to_string();
            let text = read_text(fs::File::open(file), &name)?;
            return Ok(Given { name, text });
        }
        Some(file) => file.clone(),
        None if directory.join("Dockerfile").exists() => PathBuf::from("Dockerfile"),
        None if directory.join("dockerfile").exists() => PathBuf::from("dockerfile"),
        None => PathBuf::from("Dockerfile"),
    };
    let open = || {
        let root = fs::File::open(directory)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat2(&root, &path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
            .map(fs::File::from)
            .map_err(io::Error::from)
    };
    let name = path.display().to_string();
    let text = read_text(open(), &name)?;
    Ok(Given { name, text })
}

/// The text of a Dockerfile.
pub(super) fn read_text(file: io::Result<fs::File>, name: &str) -> Result<Vec<u8>, CliError> {
    let mut text = Vec::new();
    file.and_then(|file| file.take(MAX_DOCKERFILE).read_to_end(&mut text))
        .map_err(|error| {
            CliError::failed(format!("failed to read dockerfile: {name}"))
                .caused_by(error)
                .hint("name another with --file")
        })?;
    Ok(text)
}

/// `-f` is relative to the current directory.
fn dockerfile_path(directory: &Path, args: &BuildArgs) -> Result<PathBuf, CliError> {
    if let Some(file) = &args.file {
        // Docker's classic client took it relative to the context: still common in scripts.
        let in_context = directory.join(file);
        return Ok(if !file.exists() && in_context.exists() {
            in_context
        } else {
            file.clone()
        });
    }
    let usual = directory.join("Dockerfile");
    let lower = directory.join("dockerfile");
    if usual.exists() {
        Ok(usual)
    } else if lower.exists() {
        Ok(lower)
    } else {
        Err(CliError::failed(format!(
            "failed to read dockerfile: {}: no such file",
            usual.display()
        ))
        .hint("name another with --file"))
    }
}

/// Parses a Dockerfile; `frontend` is the build argument that says what it is.
fn parsed(name: &str, text: &[u8], frontend: Option<&str>) -> Result<Dockerfile, ParseError> {
    check_syntax(name, text, frontend).and_then(|()| parse(name, text))
}

/// The ignore file beside the Dockerfile wins over that of the context.
pub(super) fn ignore_rules(
    directory: &Path,
    dockerfile: Option<&Path>,
) -> Result<PathRules, CliError> {
    let own = dockerfile.map(|path| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".dockerignore");
        path.with_file_name(name)
    });
    for path in own.into_iter().chain([directory.join(".dockerignore")]) {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(
                    CliError::failed(format!("cannot read {}", path.display())).caused_by(error)
                );
            }
        };
        return parse_ignore_file(&text).map_err(|error| {
            CliError::failed(format!("cannot use {}", path.display())).caused_by(error)
        });
    }
    Ok(PathRules::default())
}

/// The same directory for every process, whatever it works in.
pub(super) fn absolute(directory: &Path) -> PathBuf {
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

/// Unpacks a context. Owners do not matter: a context's files are root's.
/// Returns the time of the newest file, which stands for the whole.
pub(super) fn unpack(
    archive: impl Read,
    directory: &Path,
    what: &str,
    meter: &Meter,
) -> Result<Option<Timestamp>, CliError> {
    let failed = |error: io::Error| {
        CliError::failed(format!("cannot unpack the build context from {what}")).caused_by(error)
    };
    fs::create_dir(directory).map_err(failed)?;
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(false);
    // Directories last, deepest first: one may forbid to write into it.
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let _permit = meter.admit(on_disk(entry.size()))?;
        if entry.header().entry_type().is_dir() {
            directories.push(entry);
        } else {
            entry.unpack_in(directory).map_err(failed)?;
        }
    }
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut entry in directories {
        let _permit = meter.admit(on_disk(4096))?;
        entry.unpack_in(directory).map_err(failed)?;
    }
    Ok(newest_file(directory))
}

/// The time of the newest regular file: what BuildKit takes for that of an archive.
fn newest_file(directory: &Path) -> Option<Timestamp> {
    let mut newest = None;
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file() {
                newest = newest.max(metadata.modified().ok());
            }
        }
    }
    let age = newest?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp {
        seconds: i64::try_from(age.as_secs()).ok()?,
        nanoseconds: 0,
    })
}
