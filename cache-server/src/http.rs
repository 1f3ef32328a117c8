//! The pages for machines that look after the server: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::time::timeout;

use crate::auth::{Access, Gate, Right};
use crate::dispatch::Dispatch;
use crate::metrics::namespaces::MOST;
use crate::metrics::{self, Metrics, Now};
use crate::service::byte_stream::upload::Uploads;
use crate::stores::{StoreState, Stores};
use crate::tls::Peer;

/// So long the store may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// Holders of blobs that are asked for; those behind the first are added up.
const HOLDERS: usize = 10 * MOST;

/// What the pages tell of.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The stores.
    pub stores: Stores,
    /// What was counted.
    pub metrics: Metrics,
    /// Uploads.
    pub uploads: Uploads,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The queue of work for workers.
    pub dispatch: Option<Dispatch>,
    /// Whether the server is being stopped.
    pub stopping: Arc<AtomicBool>,
}

impl Watched {
    /// What there is to say of the stores; an error with the reason unless the server can serve.
    pub async fn ready(&self) -> Result<String, String> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("the server is being stopped\n".to_owned());
        }
        said_of(&self.stores.upkeep().states().await)
    }
}

/// One line that says whether all is well, and one for each store where there are several. Why one
/// is not well is for the log.
fn said_of(states: &[StoreState]) -> Result<String, String> {
    let mut lines = String::new();
    for state in states {
        if let Some(fault) = &state.fault {
            drop(crate::status::of_fault(fault));
        }
        let word = match state.fault {
            None => "ok",
            Some(_) => "away; the log says why",
        };
        let note = state.note.iter().map(|note| format!(", {note}"));
        let note: String = note.collect();
        lines.push_str(&format!("{}: {word}{note}\n", state.name));
    }
    let away = |state: &&StoreState| state.needed && state.fault.is_some();
    let away: Vec<&str> = states.iter().filter(away).map(|state| state.name).collect();
    match (states, &away[..]) {
        ([_], []) => Ok("ok\n".to_owned()),
        ([_], _) => Err("the store cannot be used; the log says why\n".to_owned()),
        (_, []) => Ok(format!("ok\n{lines}")),
        _ => Err(format!("not ready: {}\n{lines}", away.join(", "))),
    }
}

/// The pages. With a gate, `/metrics` is for those who may read everything.
pub fn pages(watched: Watched, gate: Option<Gate>) -> Router {
    let metrics = get(
        move |peer: Option<Extension<Peer>>, headers: HeaderMap, State(watched): State<Watched>| {
            let gate = gate.clone();
            async move {
                let peer = peer.map(|Extension(peer)| peer);
                match refusal(gate.as_ref(), &headers, peer.as_ref()).await {
                    Some(refusal) => refusal,
                    None => metrics_page(&watched).await,
                }
            }
        },
    );
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready_page))
        .route("/metrics", metrics)
        .with_state(watched)
}

async fn ready_page(State(watched): State<Watched>) -> Response {
    match watched.ready().await {
        Ok(text) => text.into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
    }
}

/// What those are told who may not see the numbers.
async fn refusal(
    gate: Option<&Gate>,
    headers: &HeaderMap,
    peer: Option<&Peer>,
) -> Option<Response> {
    let (code, text) = match gate?.caller(headers, peer, "/metrics").await {
        // They are about all namespaces.
        Ok(caller) if caller.may(Right::Read, "") => return None,
        Ok(_) => (
            StatusCode::FORBIDDEN,
            "the numbers are for those who may read in all namespaces\n".to_owned(),
        ),
        Err(status) => {
            let code = match status.code() {
                tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
                tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::UNAUTHORIZED,
            };
            (code, format!("{}\n", status.message()))
        }
    };
    Some((code, text).into_response())
}

async fn metrics_page(watched: &Watched) -> Response {
    let upkeep = watched.stores.upkeep();
    // Whatever is away, the page says so in time.
    let (usage, held, stores) = tokio::join!(
        timeout(ANSWER, upkeep.usage()),
        timeout(ANSWER, watched.stores.largest_holders(HOLDERS)),
        upkeep.states(),
    );
    let now = Now {
        usage: usage.ok().and_then(Result::ok),
        leases: watched.stores.leases_held(),
        uploads: watched.uploads.count(),
        ready: !watched.stopping.load(Ordering::Acquire) && said_of(&stores).is_ok(),
        stores,
        refused_blobs: watched.stores.refused_blobs(),
        held: held.ok().and_then(Result::ok).unwrap_or_default(),
        jwks_ages: watched.access.jwks_ages(),
        certificate_ends: watched.metrics.certificate_ends(),
        queue: watched.dispatch.as_ref().map(|dispatch| {
            let namespaces = watched.metrics.known_namespaces();
            (dispatch.tally().clone(), dispatch.counted(&namespaces))
        }),
    };
    match watched.metrics.page(&now) {
        Ok(page) => metrics::answer(page),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use ashlar_store::{Fault, FaultKind};

    use super::*;

    fn state(name: &'static str, needed: bool, is_there: bool) -> StoreState {
        StoreState {
            name,
            needed,
            fault: (!is_there).then(|| Fault::new(FaultKind::Unavailable, "10.0.0.7 is away")),
            note: None,
        }
    }

    #[test]
    fn each_store_is_told_of_and_those_that_are_needed_decide() {
        assert_eq!(
            said_of(&[state("store", true, true)]),
            Ok("ok\n".to_owned())
        );
        let one = said_of(&[state("store", true, false)]).expect_err("away");
        assert!(one.starts_with("the store cannot be used"), "{one}");
        let peers = [state("redis", true, true), state("peers", false, false)];
        assert_eq!(
            said_of(&peers),
            Ok("ok\nredis: ok\npeers: away; the log says why\n".to_owned())
        );
        let both = [state("redis", true, false), state("objects", true, true)];
        assert_eq!(
            said_of(&both),
            Err("not ready: redis\nredis: away; the log says why\nobjects: ok\n".to_owned())
        );
    }
}
