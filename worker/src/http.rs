//! The pages for machines that look after the worker: `/healthz`, `/readyz`, `/metrics`.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Now;
use crate::worker::Worker;

/// The type of Prometheus' page.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the pages until the future is dropped.
pub async fn serve(listener: TcpListener, worker: Arc<Worker>) -> io::Result<()> {
    axum::serve(listener, pages(worker)).await
}

/// The pages.
pub fn pages(worker: Arc<Worker>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready_page))
        .route("/metrics", get(metrics_page))
        .with_state(worker)
}

/// Whether the worker takes work, and why not.
fn ready(worker: &Worker) -> Result<&'static str, &'static str> {
    if worker.is_draining() {
        return Err("the worker is being stopped\n");
    }
    if *worker.line.attached().borrow() {
        Ok("ok\n")
    } else {
        Err("not connected to the farm; the log says why\n")
    }
}

async fn ready_page(State(worker): State<Arc<Worker>>) -> Response {
    match ready(&worker) {
        Ok(text) => text.into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
    }
}

async fn metrics_page(State(worker): State<Arc<Worker>>) -> Response {
    let now = Now {
        is_attached: *worker.line.attached().borrow(),
        is_draining: worker.is_draining(),
        slots: worker.limits.slots,
        slots_taken: worker.line.slots_taken(),
        slots_free: worker.line.capacity().free,
    };
    match worker.metrics.page(now) {
        Ok(page) => ([(header::CONTENT_TYPE, METRICS)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
