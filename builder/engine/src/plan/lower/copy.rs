//! COPY and ADD.

use std::sync::Arc;

use ashlar_model::chmod::{ModeChange, ModeError};
use ashlar_model::remote::RemoteSource;
use ashlar_model::select::{PatternError, Source, SourceQuery};

use super::Lowering;
use super::elsewhere::{remote_sources, whole};
use super::origin::Origin;
use super::stage::StageState;
use super::text::one_line;
use crate::dockerfile::Instruction;
use crate::dockerfile::instruction::{
    AddInstruction, CopyArguments, CopyInstruction, SourceArgument,
};
use crate::dockerfile::source::SourceRange;
use crate::graph::{PlannedCopy, PlannedOp, PlannedSource};
use crate::plan::error::{Place, PlanError};
use crate::plan::history;
use crate::plan::selection::Pending;
use crate::plan::stages::{check_order, source_stage};

/// What COPY and ADD have in common.
struct Files<'a> {
    keyword: &'static str,
    arguments: &'a CopyArguments,
    chown: Option<&'a str>,
    chmod: Option<&'a str>,
    unpack: Option<bool>,
    checksum: Option<&'a str>,
    keep_git_dir: Option<bool>,
    link: bool,
    parents: bool,
    exclude: &'a [String],
    /// Where `--from` leads; `None` is the build context.
    origin: Option<Origin>,
}

/// Words of a copy, expanded.
struct Words {
    owner: Option<String>,
    mode: Option<String>,
    destination: String,
    checksum: Option<String>,
    paths: Vec<String>,
    /// Names and contents of heredocs.
    inline: Vec<(String, Vec<u8>)>,
}

impl Files<'_> {
    /// The instruction as the image's history has it.
    fn history(&self, words: &Words) -> String {
        let mut line = self.keyword.to_owned();
        if self.parents {
            line.push_str(" --parents");
        }
        for (flag, value) in [("--chown", &words.owner), ("--chmod", &words.mode)] {
            if let Some(value) = value {
                line.push_str(&format!(" {flag}={value}"));
            }
        }
        for path in &words.paths {
            line.push_str(&format!(" {path}"));
        }
        for (name, _) in &words.inline {
            line.push_str(&format!(" <<{name}"));
        }
        line.push_str(&format!(" {} # buildkit", words.destination));
        line
    }
}

impl Lowering<'_> {
    pub(super) async fn lower_copy<K>(
        &mut self,
        index: usize,
        state: &mut StageState,
        instruction: &Instruction<K>,
        copy: &CopyInstruction,
    ) -> Result<(), PlanError> {
        let origin = match &copy.from {
            None => None,
            Some(from) => {
                let origin = self.copy_origin(index, from, instruction.range).await;
                Some(origin.map_err(|error| error.about(from))?)
            }
        };
        let files = Files {
            keyword: "COPY",
            arguments: &copy.arguments,
            chown: copy.chown.as_deref(),
            chmod: copy.chmod.as_deref(),
            unpack: Some(false),
            checksum: None,
            keep_git_dir: None,
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
            origin,
        };
        self.lower_files(state, instruction, files)
    }

    pub(super) fn lower_add<K>(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction<K>,
        add: &AddInstruction,
    ) -> Result<(), PlanError> {
        let files = Files {
            keyword: "ADD",
            arguments: &add.arguments,
            chown: add.chown.as_deref(),
            chmod: add.chmod.as_deref(),
            unpack: add.unpack,
            checksum: add.checksum.as_deref(),
            keep_git_dir: add.keep_git_dir,
            link: add.link,
            parents: false,
            exclude: &add.exclude,
            origin: None,
        };
        self.lower_files(state, instruction, files)
    }

    /// The words of a copy, expanded.
    fn expanded(&self, state: &StageState, files: &Files<'_>) -> Result<Words, PlanError> {
        let word = |text: &str| self.word(state, text);
        let owner = files
            .chown
            .map(word)
            .transpose()?
            .filter(|text| !text.is_empty());
        let mode = files
            .chmod
            .map(word)
            .transpose()?
            .filter(|text| !text.is_empty());
        if let Some(mode) = &mode {
            ModeChange::parse(mode).map_err(|error| of_mode(&error, files.chmod))?;
        }
        let destination = word(&files.arguments.destination)?;
        let mut paths = Vec::new();
        let mut inline = Vec::new();
        for source in &files.arguments.sources {
            match source {
                SourceArgument::Path(path) => paths.push(word(path)?),
                SourceArgument::Heredoc(heredoc) => {
                    let data = self.heredoc_file(state, heredoc)?;
                    inline.push((heredoc.name.clone(), data));
                }
            }
        }
        let checksum = files
            .checksum
            .map(word)
            .transpose()?
            .filter(|text| !text.is_empty());
        Ok(Words {
            owner,
            mode,
            destination,
            checksum,
            paths,
            inline,
        })
    }

    fn lower_files<K>(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction<K>,
        files: Files<'_>,
    ) -> Result<(), PlanError> {
        let words = self.expanded(state, &files)?;
        let line = files.history(&words);
        let Words {
            owner,
            mode,
            destination,
            checksum,
            paths,
            inline,
        } = words;
        let remotes = remote_sources(
            files.keyword,
            files.keep_git_dir,
            &paths,
            checksum.as_deref(),
        )?;
        let is_local = |(_, remote): &(&String, &Option<RemoteSource>)| remote.is_none();
        let local: Vec<String> = paths
            .iter()
            .zip(&remotes)
            .filter(is_local)
            .map(|(path, _)| path.clone())
            .collect();
        if files.origin.is_none() {
            self.note_context_sources(files.keyword, &local);
        }

        let query = |path: &String| SourceQuery {
            path: path.clone(),
            parents: files.parents,
            exclude: files.exclude.to_vec(),
        };
        for path in &local {
            Source::parse(&query(path)).map_err(|error| of_pattern(&error))?;
        }

        history::add(&mut state.config, line, true);

        let origin = match files.origin {
            Some(origin) => origin,
            None if local.is_empty() => Origin::Context(0),
            None => Origin::Context(self.main_context()?),
        };
        let mut sources = Vec::with_capacity(paths.len() + inline.len());
        let mut selected = Vec::new();
        for (path, remote) in paths.iter().zip(remotes) {
            if let Some(remote) = remote {
                let query = SourceQuery {
                    path: whole(&remote),
                    ..query(path)
                };
                let place = Place::of(&self.dockerfile.source, instruction, Some(path));
                sources.push(PlannedSource::Remote {
                    remote: self.remote(remote, place),
                    query,
                    unpack: files.unpack.unwrap_or(false),
                });
                continue;
            }
            let query = query(path);
            match &origin {
                Origin::Context(context) => {
                    selected.push((sources.len(), *context, query));
                    sources.push(PlannedSource::Directory {
                        root: std::path::PathBuf::new(),
                        selection: Arc::default(),
                    });
                }
                Origin::Node(node) => {
                    sources.push(PlannedSource::Node { node: *node, query });
                }
                Origin::Remote(source) => {
                    let place = Place::of(&self.dockerfile.source, instruction, None);
                    sources.push(PlannedSource::Remote {
                        remote: self.remote(source.clone(), place),
                        query,
                        unpack: false,
                    });
                }
            }
        }
        for (name, data) in inline {
            sources.push(PlannedSource::Inline { name, data });
        }
        // BuildKit takes no notice of --link where there is a --chmod.
        let linked = files.link && mode.is_none();
        let op = PlannedOp::Copy(PlannedCopy {
            sources,
            destination: absolute(state.working_directory(), &destination),
            owner,
            mode,
            unpack: files.unpack.unwrap_or(true),
        });
        let text = one_line(instruction, self.dockerfile.directives.escape);
        let below = state.node;
        if linked {
            state.node = self.scratch_node(instruction.range);
        }
        let node = self.add_step(state, &text, instruction.range, op);
        if linked {
            state.node = self.stack_node(below, node, instruction.range);
        }
        let source_text = &self.dockerfile.source;
        self.pending.extend(
            selected
                .into_iter()
                .map(|(source, context, query)| Pending {
                    node,
                    source,
                    context,
                    place: Place::of(source_text, instruction, Some(&query.path)),
                    query,
                }),
        );
        Ok(())
    }

    async fn copy_origin(
        &mut self,
        index: usize,
        from: &str,
        range: SourceRange,
    ) -> Result<Origin, PlanError> {
        if let Some(stage) = source_stage(self.dockerfile, from)? {
            check_order(self.dockerfile, stage, from, index)?;
            let state = self.done[stage]
                .as_ref()
                .ok_or_else(|| PlanError::new(format!("stage {from:?} was not planned")))?;
            return Ok(Origin::Node(state.node));
        }
        self.external_origin(from, range).await
    }
}

fn of_mode(error: &ModeError, written: Option<&str>) -> PlanError {
    let flag = format!("--chmod={}", written.unwrap_or_default());
    PlanError::new(error.to_string())
        .about(&flag)
        .hinted(error.hint())
}

fn of_pattern(error: &PatternError) -> PlanError {
    let written = match error {
        PatternError::Wildcard { pattern, .. }
        | PatternError::Rule { pattern, .. }
        | PatternError::Path { pattern, .. } => pattern,
    };
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    PlanError::new(format!("{error}{cause}")).about(written)
}

/// A destination below the working directory; that it names a directory stays visible.
fn absolute(working_directory: &str, destination: &str) -> String {
    let directory = working_directory.trim_end_matches('/');
    match destination {
        "" | "." => format!("{directory}/"),
        path if path.starts_with('/') => path.to_owned(),
        path => {
            let is_directory = path.ends_with("/.") && path.len() > 2;
            format!("{directory}/{path}{}", if is_directory { "/" } else { "" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn destinations_are_below_the_working_directory() {
        for (directory, destination, absolute_path) in [
            ("/", "a", "/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", ".", "/w/"),
            ("/w/", "./", "/w/./"),
            ("/w", "/x", "/x"),
            ("/", ".", "/"),
            ("/w", "a/.", "/w/a/./"),
        ] {
            assert_eq!(absolute(directory, destination), absolute_path);
        }
    }
}
