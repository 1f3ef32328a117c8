//! RUN: a command in a container whose changes become a layer.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::{ExitStatus, StepError, StepOutput};
use ashlar_model::layer::LayerRecord;
use ashlar_model::step::RunSpec;

use super::error::{environment, of_run, of_store};
use super::mounts::{self, Masked};
use super::request::{self, Request};
use super::{LocalExecutor, clock};
use crate::sandbox::{ContainerSpec, RootFilesystem, SandboxHelper, Stdio, Writable};

impl LocalExecutor {
    pub(super) async fn run_step(
        &self,
        spec: &RunSpec,
        parent: &[LayerId],
        output: Arc<dyn StepOutput>,
    ) -> Result<LayerId, StepError> {
        let helper = self.helper().await?;
        let lowers = self.trees(&helper, parent).await?;
        let scratch = self.home().scratch().map_err(of_store)?;
        let writable = Writable {
            upper: scratch.path().join("upper"),
            work: scratch.path().join("work"),
        };
        make_upper(
            &writable.upper,
            lowers.last().map(std::path::PathBuf::as_path),
        )?;
        make_directory(&writable.work, 0o700)?;
        let upper = writable.upper.clone();
        let prepared = self
            .prepare_mounts(&helper, &spec.mounts, scratch.path(), &*output)
            .await;
        let mounts::Prepared {
            mounts,
            env,
            values,
            held,
        } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.discard(&helper, scratch.path()).await;
                return Err(error);
            }
        };
        let output = Masked::wrap(output, &values);
        let container = ContainerSpec {
            root: RootFilesystem {
                lowers,
                writable: Some(writable),
            },
            args: spec.args.clone(),
            env: environment_of(spec, env),
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            network: spec.network,
            hostname: spec.hostname.clone(),
            extra_hosts: spec.extra_hosts.clone(),
            script: spec.script.clone(),
            mounts,
            security: spec.security,
            ulimits: spec.ulimits.clone(),
        };
        let run = helper.run(container, Stdio::Captured(output.clone()));
        let ended = self.run_within_quota(&helper, run, &scratch).await;
        output.finish();
        drop(held);
        let ended = ended?;
        let mut allowance = ended.allowance;
        let command = shell_words(&spec.args);
        let outcome = match ended.outcome {
            Ok(ExitStatus::Code(0)) => Ok(()),
            Ok(status) => Err(StepError::Failed { command, status }),
            Err(error) => Err(of_run(error, &command, helper.id_map().missing_ids_hint())),
        };
        if let Err(error) = outcome {
            self.discard_allowed(&helper, &scratch, allowance).await;
            return Err(explain_missing_ids(error, &helper));
        }
        let layer = self.home().new_layer_id().map_err(of_store)?;
        let tree = self.tree_path(&helper, &layer);
        let settled = self.settle_allowance(&helper, &scratch, &tree, &mut allowance);
        if let Err(error) = settled.await {
            self.discard_allowed(&helper, &scratch, allowance).await;
            return Err(error);
        }
        self.keep_tree(&helper, &upper, &layer).await?;
        let mut record = LayerRecord::made_by_step(layer);
        record.created = Some(clock::now());
        self.home().put_layer(&record).map_err(of_store)?;
        self.discard(&helper, scratch.path()).await;
        Ok(layer)
    }

    /// Removes a scratch directory. What cannot be removed now, the next sweep removes.
    pub(super) async fn discard(&self, helper: &SandboxHelper, scratch: &Path) {
        let simple = fs::remove_dir(scratch.join("work"))
            .and_then(|()| fs::remove_dir(scratch))
            .is_ok();
        if !simple {
            let paths = vec![scratch.to_owned()];
            drop(request::call(helper, &Request::Remove { paths }).await);
        }
    }
}

/// The whole environment of a command. A secret's value takes the place of a variable of its name.
fn environment_of(spec: &RunSpec, secrets: Vec<(String, String)>) -> Vec<(String, String)> {
    let plain = spec.env.iter().chain(&spec.unkeyed_env);
    let mut env: Vec<_> = plain
        .filter(|(name, _)| !secrets.iter().any(|(secret, _)| secret == name))
        .cloned()
        .collect();
    env.extend(secrets);
    env
}

/// In one-uid mode a failure may well be for want of ids: say so.
pub(super) fn explain_missing_ids(error: StepError, helper: &SandboxHelper) -> StepError {
    match (error, helper.id_map().missing_ids_hint()) {
        (StepError::Failed { command, status }, Some(hint)) => StepError::Input {
            message: format!("process {command} did not complete successfully: {status}"),
            hint: Some(hint),
        },
        (
            StepError::Input {
                message,
                hint: None,
            },
            Some(hint),
        ) => StepError::Input {
            message,
            hint: Some(hint),
        },
        (error, _) => error,
    }
}

/// The root directory of a container is that of the topmost layer: as that has it.
pub(super) fn make_upper(upper: &Path, below: Option<&Path>) -> Result<(), StepError> {
    let mode = below
        .and_then(|below| fs::symlink_metadata(below).ok())
        .map_or(0o755, |metadata| metadata.mode() & 0o7777);
    make_directory(upper, mode)
}

pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), StepError> {
    let made = fs::DirBuilder::new().mode(mode).create(path);
    made.and_then(|()| {
        // The umask may have taken bits away.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    })
    .map_err(|error| environment(&format!("cannot create {}", path.display()), None, error))
}

/// The command as a shell would read it.
pub(super) fn shell_words(args: &[String]) -> String {
    let quote = |word: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:@%+,".contains(&b);
        if !word.is_empty() && word.bytes().all(plain) {
            word.clone()
        } else {
            format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
        }
    };
    let words: Vec<String> = args.iter().map(quote).collect();
    format!("`{}`", words.join(" "))
}
