//! A tree as text again: one line for each instruction, then its heredocs.
//!
//! Parsing the text gives the same tree but for places, the spelling of keywords and flags, and
//! warnings. It is for messages, tests and tools, not for keeping a file's layout.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use super::ast::{Dockerfile, Instruction};
use super::duration::GoDuration;
use super::heredoc::Heredoc;
use super::instruction::{
    AddInstruction, ArgInstruction, CommandLine, CopyArguments, CopyInstruction, FromInstruction,
    HealthcheckInstruction, InstructionKind, KeyValue, RunInstruction, RunNetwork, RunSecurity,
    SourceArgument,
};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.directives.syntax {
            writeln!(f, "# syntax={}", syntax.value)?;
        }
        if self.directives.escape != '\\' {
            writeln!(f, "# escape={}", self.directives.escape)?;
        }
        if let Some(check) = &self.directives.check {
            writeln!(f, "# check={}", check.value)?;
        }
        // So that no comment below is taken for a directive.
        f.write_char('\n')?;
        for arg in &self.global_args {
            writeln!(f, "{arg}")?;
        }
        for stage in &self.stages {
            writeln!(f, "{}", stage.from)?;
            for instruction in &stage.instructions {
                writeln!(f, "{instruction}")?;
            }
        }
        Ok(())
    }
}

/// The comments above, then the instruction, without a line end.
impl<K: Display> Display for Instruction<K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for comment in &self.comments {
            writeln!(f, "# {comment}")?;
        }
        self.kind.fmt(f)
    }
}

impl Display for FromInstruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("FROM");
        line.flag("platform", self.platform.as_deref());
        line.word(&self.image);
        if let Some((keyword, name)) = &self.name_as_written {
            line.word(keyword);
            line.word(name);
        }
        line.fmt(f)
    }
}

impl Display for ArgInstruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("ARG");
        for declaration in &self.declarations {
            match &declaration.default {
                Some(default) => line.word(&format!("{}={default}", declaration.name)),
                None => line.word(&declaration.name),
            }
        }
        line.fmt(f)
    }
}

impl Display for InstructionKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(add) => add.fmt(f),
            Self::Arg(arg) => arg.fmt(f),
            Self::Cmd(cmd) => write_command(f, "CMD", &cmd.command),
            Self::Copy(copy) => copy.fmt(f),
            Self::Entrypoint(entrypoint) => write_command(f, "ENTRYPOINT", &entrypoint.command),
            Self::Env(env) => write_pairs(f, "ENV", &env.pairs, env.legacy),
            Self::Expose(expose) => write_words(f, "EXPOSE", &expose.ports, false),
            Self::Healthcheck(healthcheck) => healthcheck.fmt(f),
            Self::Label(label) => write_pairs(f, "LABEL", &label.pairs, label.legacy),
            Self::Maintainer(maintainer) => write_text(f, "MAINTAINER", &maintainer.name),
            Self::Onbuild(onbuild) => write!(f, "ONBUILD {}", onbuild.trigger),
            Self::Run(run) => run.fmt(f),
            Self::Shell(shell) => write_words(f, "SHELL", &shell.arguments, true),
            Self::Stopsignal(stopsignal) => write_text(f, "STOPSIGNAL", &stopsignal.signal),
            Self::User(user) => write_text(f, "USER", &user.user),
            Self::Volume(volume) => write_words(f, "VOLUME", &volume.paths, volume.json),
            Self::Workdir(workdir) => write_text(f, "WORKDIR", &workdir.path),
        }
    }
}

impl Display for RunInstruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("RUN");
        for mount in &self.mounts {
            line.flag("mount", Some(mount));
        }
        line.flag("network", self.network.map(RunNetwork::name));
        line.flag("security", self.security.map(RunSecurity::name));
        for device in &self.devices {
            line.flag("device", Some(device));
        }
        line.command(&self.command);
        line.fmt(f)?;
        write_heredocs(f, self.heredocs.iter())
    }
}

impl Display for CopyInstruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("COPY");
        line.flag("from", self.from.as_deref());
        line.flag("chown", self.chown.as_deref());
        line.flag("chmod", self.chmod.as_deref());
        line.switch("link", self.link.then_some(true));
        line.switch("parents", self.parents.then_some(true));
        for pattern in &self.exclude {
            line.flag("exclude", Some(pattern));
        }
        write_copy(f, line, &self.arguments)
    }
}

impl Display for AddInstruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("ADD");
        line.flag("chown", self.chown.as_deref());
        line.flag("chmod", self.chmod.as_deref());
        line.switch("link", self.link.then_some(true));
        line.switch("keep-git-dir", self.keep_git_dir);
        line.flag("checksum", self.checksum.as_deref());
        line.switch("unpack", self.unpack);
        for pattern in &self.exclude {
            line.flag("exclude", Some(pattern));
        }
        write_copy(f, line, &self.arguments)
    }
}

impl Display for HealthcheckInstruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let check = match self {
            Self::None => return f.write_str("HEALTHCHECK NONE"),
            Self::Command(check) => check,
        };
        let mut line = Line::new("HEALTHCHECK");
        let mut duration = |name, duration: Option<Duration>| {
            let text = duration.map(|duration| GoDuration(duration).to_string());
            line.flag(name, text.as_deref());
        };
        duration("interval", check.interval);
        duration("timeout", check.timeout);
        duration("start-period", check.start_period);
        duration("start-interval", check.start_interval);
        let retries = check.retries.map(|retries| retries.to_string());
        line.flag("retries", retries.as_deref());
        line.word("CMD");
        line.command(&check.command);
        line.fmt(f)
    }
}

/// The word that announces it, in the plainest quotes that mean the same.
impl Display for Heredoc {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(fd) = self.fd {
            write!(f, "{fd}")?;
        }
        f.write_str(if self.chomp { "<<-" } else { "<<" })?;
        if self.expand {
            for (index, character) in self.name.char_indices() {
                let special = matches!(character, '\'' | '"' | '\\') || character.is_whitespace();
                if special || (index == 0 && character == '-') {
                    f.write_char('\\')?;
                }
                f.write_char(character)?;
            }
            Ok(())
        } else if self.name.contains('\'') {
            write!(f, "\"{}\"", escape(&self.name, &['"', '\\', '$']))
        } else {
            write!(f, "'{}'", self.name)
        }
    }
}

/// A line that is being put together.
struct Line {
    text: String,
    /// Whether a word `--` would still be taken for the end of flags, or `--x` for a flag.
    in_flags: bool,
}

impl Line {
    fn new(keyword: &str) -> Self {
        Self {
            text: keyword.to_owned(),
            in_flags: true,
        }
    }

    fn flag(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else {
            return;
        };
        let plain = |c: char| !c.is_whitespace() && !matches!(c, '\'' | '"' | '\\');
        let value = if value.chars().all(plain) {
            value.to_owned()
        } else {
            format!("\"{}\"", escape(value, &['"', '\\']))
        };
        self.text.extend([" --", name, "=", &value]);
    }

    fn switch(&mut self, name: &str, value: Option<bool>) {
        match value {
            Some(true) => self.text.extend([" --", name]),
            Some(false) => self.text.extend([" --", name, "=false"]),
            None => {}
        }
    }

    /// Adds a word, or the rest of the line.
    fn word(&mut self, word: &str) {
        self.separated_word(" ", word);
    }

    fn separated_word(&mut self, separator: &str, word: &str) {
        if self.in_flags && word.starts_with("--") {
            self.text.push_str(" --");
        }
        self.in_flags = false;
        self.text.extend([separator, word]);
    }

    fn command(&mut self, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) if text.is_empty() => {}
            CommandLine::Shell(text) => self.word(text),
            CommandLine::Exec(arguments) => self.word(&json(arguments)),
        }
    }

    fn words<'w>(&mut self, words: impl Iterator<Item = &'w str>) {
        let mut separator = " ";
        for (index, word) in words.enumerate() {
            self.separated_word(separator, word);
            if index == 0 && word.starts_with('[') {
                // The words must not become a JSON array that they were not. This separates
                // words, but not the items of an array.
                separator = "\x0b";
            }
        }
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.text.ends_with(['\\', '`']) {
            // The line must not be continued. This blank prevents it and is not read.
            f.write_char('\x0c')?;
        }
        Ok(())
    }
}

fn write_text(f: &mut Formatter<'_>, keyword: &str, text: &str) -> fmt::Result {
    let mut line = Line::new(keyword);
    line.word(text);
    line.fmt(f)
}

fn write_words(f: &mut Formatter<'_>, keyword: &str, words: &[String], json: bool) -> fmt::Result {
    let mut line = Line::new(keyword);
    if json {
        line.word(&self::json(words));
    } else {
        line.words(words.iter().map(String::as_str));
    }
    line.fmt(f)
}

fn write_command(f: &mut Formatter<'_>, keyword: &str, command: &CommandLine) -> fmt::Result {
    let mut line = Line::new(keyword);
    line.command(command);
    line.fmt(f)
}

fn write_pairs(
    f: &mut Formatter<'_>,
    keyword: &str,
    pairs: &[KeyValue],
    legacy: bool,
) -> fmt::Result {
    let mut line = Line::new(keyword);
    for KeyValue { name, value } in pairs {
        if legacy {
            // The second blank is one still if the first is escaped.
            line.word(&format!("{name}  {value}"));
        } else {
            line.word(&format!("{name}={value}"));
        }
    }
    line.fmt(f)
}

fn write_copy(f: &mut Formatter<'_>, mut line: Line, arguments: &CopyArguments) -> fmt::Result {
    let source = |source: &SourceArgument| match source {
        SourceArgument::Path(path) => path.clone(),
        SourceArgument::Heredoc(heredoc) => heredoc.to_string(),
    };
    let mut words: Vec<String> = arguments.sources.iter().map(source).collect();
    words.push(arguments.destination.clone());
    if arguments.json {
        line.word(&json(&words));
    } else {
        line.words(words.iter().map(String::as_str));
    }
    line.fmt(f)?;
    write_heredocs(f, arguments.heredocs())
}

fn write_heredocs<'h>(
    f: &mut Formatter<'_>,
    heredocs: impl Iterator<Item = &'h Heredoc>,
) -> fmt::Result {
    for heredoc in heredocs {
        write!(f, "\n{}{}", heredoc.body, heredoc.name)?;
    }
    Ok(())
}

fn json(items: &[String]) -> String {
    let items: Vec<_> = items
        .iter()
        .map(|item| serde_json::Value::from(item.as_str()))
        .collect();
    serde_json::Value::from(items).to_string()
}

/// The text with `\` before each of the characters.
fn escape(text: &str, characters: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if characters.contains(&character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests;
