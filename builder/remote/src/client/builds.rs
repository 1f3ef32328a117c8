//! Whole builds that a farm runs, or remembers.

use std::time::SystemTime;

use ashlar_proto::convert::time_from_wire;
use ashlar_proto::wire::farm::ListBuildsRequest;
use ashlar_proto::wire::farm::list_builds_response::Build as Wire;
use ashlar_proto::wire::reapi::execution_stage::Value as WireStage;
use tonic::Code;

use super::operation::shown;
use super::{FarmClient, FarmError};

/// How far a build has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// It has ended well.
    Done,
    /// It has failed, or the farm could not do it.
    Failed(String),
    /// It was called off.
    Cancelled,
}

/// A whole build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmBuild {
    /// Its operation.
    pub operation: String,
    /// How people call it.
    pub name: String,
    /// Who submitted it.
    pub user: String,
    /// How far it has come.
    pub stage: Stage,
    /// When it was submitted.
    pub submitted: Option<SystemTime>,
    /// When it began.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub ended: Option<SystemTime>,
}

impl FarmBuild {
    fn of_wire(build: Wire) -> Self {
        let stage = match build.stage() {
            WireStage::Completed => {
                let status = build.status.unwrap_or_default();
                match Code::from_i32(status.code) {
                    Code::Ok => Stage::Done,
                    Code::Cancelled => Stage::Cancelled,
                    _ => Stage::Failed(shown(&status.message)),
                }
            }
            WireStage::Executing => Stage::Running,
            _ => Stage::Queued,
        };
        let time = |time: Option<prost_types::Timestamp>| time_from_wire(&time?);
        Self {
            operation: shown(&build.operation),
            name: shown(&build.name),
            user: shown(&build.user),
            stage,
            submitted: time(build.submitted),
            started: time(build.started),
            ended: time(build.ended),
        }
    }
}

impl FarmClient {
    /// The newest builds, at most so many.
    pub async fn builds(&self, most: usize) -> Result<Vec<FarmBuild>, FarmError> {
        let mut builds = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListBuildsRequest {
                instance_name: self.instance().to_owned(),
                page_size: u32::try_from(most - builds.len()).unwrap_or(u32::MAX),
                page_token: page_token.clone(),
            };
            let page = self
                .endpoint
                .call("list the farm's builds", || {
                    let (mut client, request) = (self.wire(), request.clone());
                    async move { client.list_builds(request).await }
                })
                .await
                .map_err(FarmError::of_fault)?;
            builds.extend(page.builds.into_iter().map(FarmBuild::of_wire));
            builds.truncate(most);
            let has_more = !page.next_page_token.is_empty() && page.next_page_token != page_token;
            if builds.len() >= most || !has_more {
                return Ok(builds);
            }
            page_token = page.next_page_token;
        }
    }
}
