//! What the sandbox's file worker is asked, and its answers.
//!
//! Requests name files by path: the worker sees the same filesystem as the builder, as the root
//! of its user namespace. A request runs to its end even if nobody waits for the answer; all that
//! it makes, it makes under a temporary name first.

use std::path::PathBuf;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{CopySpec, MakeDirectorySpec, Selection};
use ashlar_store::home::gc::measure;
use serde::{Deserialize, Serialize};

use super::error::of_call;
use super::files::{self, StoredLayer};
use crate::sandbox::SandboxHelper;

/// One thing to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Unpack a layer's tar or blob into a tree.
    Unpack(files::UnpackJob),
    /// Make a layer's tree by copying files.
    Copy {
        /// What to copy.
        spec: CopySpec,
        /// From where to where.
        job: files::CopyJob,
    },
    /// Make a layer's tree that holds one new directory.
    MakeDirectory {
        /// Which.
        spec: MakeDirectorySpec,
        /// Onto what, and where to.
        job: files::CopyJob,
    },
    /// Read a layer's tree: index, content, tar, blobs.
    Pack(files::PackJob),
    /// Write a layer's tar.
    WriteTar {
        /// The layer's tree; nothing more is made of it.
        job: files::PackJob,
        /// The fifo to write to, from which somebody reads.
        output: PathBuf,
    },
    /// Select files of a filesystem.
    Select {
        /// The store.
        home: PathBuf,
        /// The filesystem, bottom first.
        layers: Vec<StoredLayer>,
        /// What of it.
        sources: Vec<SourceQuery>,
    },
    /// Write a whole filesystem as one tar.
    Export {
        /// The store.
        home: PathBuf,
        /// The filesystem, bottom first.
        layers: Vec<StoredLayer>,
        /// The file, or fifo, to write to.
        output: PathBuf,
    },
    /// Compare trees with their layers' indexes.
    Check {
        /// The store.
        home: PathBuf,
        /// The layers and their trees.
        trees: Vec<(LayerId, PathBuf)>,
        /// How closely.
        scrutiny: files::Scrutiny,
    },
    /// Set up what of a tree depends on the layers below.
    SetOnGround {
        /// The store.
        home: PathBuf,
        /// The layer.
        layer: LayerId,
        /// Its tree.
        tree: PathBuf,
        /// The trees below, bottom first.
        below: Vec<PathBuf>,
    },
    /// Make the directory of a cache mount.
    MakeCache(files::CacheJob),
    /// Write what a cache mount holds as a tar.
    WriteCache {
        /// Its directory.
        files: PathBuf,
        /// The fifo to write to, from which somebody reads.
        output: PathBuf,
    },
    /// Fill a new directory from the tar of a cache mount.
    FillCache(files::FillJob),
    /// Rename a tree.
    Move {
        /// From here.
        from: PathBuf,
        /// To here.
        to: PathBuf,
    },
    /// Work as part of this process from now on, as far as a store's quota goes.
    Join {
        /// The store.
        home: PathBuf,
        /// The process, as [`Home::user_name`](ashlar_store::home::Home::user_name) tells it.
        user: String,
    },
    /// Tell how many bytes files and directories take on disk, with all that is in them.
    Measure {
        /// Which.
        paths: Vec<PathBuf>,
    },
    /// Remove files and directories with all that is in them; what is not there is no error.
    Remove {
        /// Which.
        paths: Vec<PathBuf>,
    },
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done {
        /// What the user should know.
        warnings: Vec<String>,
    },
    /// A layer was packed.
    Packed(files::PackedLayer),
    /// Files were selected: one selection for each source.
    Selected(Vec<Selection>),
    /// Trees were compared: the layers whose trees differ.
    Damaged(Vec<LayerId>),
    /// Files and directories take so many bytes together.
    Measured(u64),
    /// It failed.
    Failed(WorkError),
}

/// Why a request failed, in a form that crosses processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkError {
    /// Whether it is the fault of what was asked for, and not of this machine.
    pub input: bool,
    /// What is wrong, causes included.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl WorkError {
    /// An error of this machine.
    pub(super) fn environment(message: impl Into<String>) -> Self {
        Self {
            input: false,
            message: message.into(),
            hint: None,
        }
    }

    /// An error of what was asked for.
    pub(super) fn input(message: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            input: true,
            message: message.into(),
            hint,
        }
    }
}

impl From<WorkError> for StepError {
    fn from(error: WorkError) -> Self {
        let WorkError {
            input,
            message,
            hint,
        } = error;
        if input {
            Self::Input { message, hint }
        } else {
            Self::Environment {
                message,
                hint,
                source: None,
            }
        }
    }
}

impl Answer {
    /// The answer of a request that gives nothing but warnings.
    pub(super) fn done(self) -> Result<Vec<String>, StepError> {
        match self {
            Self::Done { warnings } => Ok(warnings),
            Self::Failed(error) => Err(error.into()),
            Self::Packed(_) | Self::Selected(_) | Self::Damaged(_) | Self::Measured(_) => {
                Err(wrong_answer())
            }
        }
    }
}

pub(super) fn wrong_answer() -> StepError {
    StepError::Environment {
        message: "the sandbox answered another request than it was asked".to_owned(),
        hint: None,
        source: None,
    }
}

/// A request is plain data: all that cannot be encoded are paths that are no text.
fn bad_path() -> StepError {
    StepError::Environment {
        message: "the path of the store or of the build context is not UTF-8".to_owned(),
        hint: Some("move it, or reach it through a symbolic link with another name".to_owned()),
        source: None,
    }
}

/// Asks the file worker.
pub(super) async fn call(helper: &SandboxHelper, request: &Request) -> Result<Answer, StepError> {
    let encoded = postcard::to_stdvec(request).map_err(|_| bad_path())?;
    let answer = helper.call(&encoded).await.map_err(of_call)?;
    postcard::from_bytes(&answer).map_err(|_| wrong_answer())
}

/// Serves one request: the handler to give to [`run_if_child`](crate::sandbox::run_if_child).
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of a file handler"
)]
pub fn serve(request: Vec<u8>) -> Vec<u8> {
    let answer = match postcard::from_bytes(&request) {
        Ok(request) => carry_out(request).unwrap_or_else(Answer::Failed),
        Err(error) => Answer::Failed(WorkError::environment(format!(
            "a request cannot be read: {error}"
        ))),
    };
    // Answers are plain data: encoding one into memory cannot fail.
    postcard::to_stdvec(&answer).unwrap_or_default()
}

fn carry_out(request: Request) -> Result<Answer, WorkError> {
    let done = |warnings| Ok(Answer::Done { warnings });
    match request {
        Request::Unpack(job) => done(files::unpack(&job)?),
        Request::Copy { spec, job } => done(files::copy(&spec, &job)?),
        Request::MakeDirectory { spec, job } => done(files::make_directory(&spec, &job)?),
        Request::Pack(job) => Ok(Answer::Packed(files::pack(&job)?)),
        Request::WriteTar { job, output } => done(files::write_layer_tar(&job, &output)?),
        Request::Select {
            home,
            layers,
            sources,
        } => Ok(Answer::Selected(files::select(&home, &layers, &sources)?)),
        Request::Export {
            home,
            layers,
            output,
        } => done(files::export(&home, &layers, &output)?),
        Request::Check {
            home,
            trees,
            scrutiny,
        } => Ok(Answer::Damaged(files::damaged_trees(
            &home, &trees, scrutiny,
        )?)),
        Request::SetOnGround {
            home,
            layer,
            tree,
            below,
        } => {
            files::set_on_ground(&home, &layer, &tree, &below)?;
            done(Vec::new())
        }
        Request::WriteCache { files, output } => {
            files::write_cache(&files, &output)?;
            done(Vec::new())
        }
        Request::FillCache(job) => {
            files::fill_cache(&job)?;
            done(Vec::new())
        }
        Request::MakeCache(job) => done(files::make_cache(&job)?),
        Request::Move { from, to } => {
            files::rename(&from, &to)?;
            done(Vec::new())
        }
        Request::Join { home, user } => {
            files::join(&home, &user)?;
            done(Vec::new())
        }
        Request::Measure { paths } => Ok(Answer::Measured(
            paths.iter().map(|path| measure(path)).sum(),
        )),
        Request::Remove { paths } => {
            files::remove(&paths)?;
            done(Vec::new())
        }
    }
}
