//! The pages for machines that look after the server: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::time::timeout;

use crate::auth::Access;
use crate::metrics::{self, Metrics, Now};
use crate::service::byte_stream::upload::Uploads;
use crate::stores::Stores;

/// So long the store may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// What the pages tell of.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The stores.
    pub stores: Stores,
    /// What was counted.
    pub metrics: Metrics,
    /// Uploads.
    pub uploads: Uploads,
    /// Whether the server is being stopped.
    pub stopping: Arc<AtomicBool>,
}

impl Watched {
    /// Fails with a reason unless the server can serve.
    pub async fn ready(&self) -> Result<(), &'static str> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("the server is being stopped");
        }
        match timeout(ANSWER, self.stores.upkeep().ready()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => {
                drop(crate::status::of_fault(&fault));
                Err("the store cannot be used; the log says why")
            }
            Err(_) => Err("the store does not answer"),
        }
    }
}

/// The pages. With `access`, `/metrics` is for those who may read.
pub fn pages(watched: Watched, access: Option<Arc<Access>>) -> Router {
    let metrics = get(move |headers: HeaderMap, State(watched): State<Watched>| {
        let access = access.clone();
        async move { metrics_page(&headers, &watched, access.as_deref()).await }
    });
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready_page))
        .route("/metrics", metrics)
        .with_state(watched)
}

async fn ready_page(State(watched): State<Watched>) -> Response {
    match watched.ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics_page(headers: &HeaderMap, watched: &Watched, access: Option<&Access>) -> Response {
    if let Some(access) = access {
        let header = headers.get("authorization");
        let header = header.map(|value| value.to_str().unwrap_or_default());
        if let Err(status) = access.caller(header) {
            let text = format!("{}\n", status.message());
            return (StatusCode::UNAUTHORIZED, text).into_response();
        }
    }
    let usage = timeout(ANSWER, watched.stores.upkeep().usage()).await;
    let now = Now {
        usage: usage.ok().and_then(Result::ok),
        leases: watched.stores.leases_held(),
        uploads: watched.uploads.count(),
        ready: watched.ready().await.is_ok(),
        ..Now::default()
    };
    match watched.metrics.page(&now) {
        Ok(page) => metrics::answer(page),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
