//! `/metrics`, `/healthz`, `/readyz`, `/status.json`, and a page for people at `/`.
//!
//! Owns: the listener and the routes; for `tributary status`, the one request that it makes.
//! Does not: know what is shown; `status` and `metrics` do.
//! Holds: answering never waits for the pipeline; everything shown on the page is escaped.
//! Fails: `Config` when the address cannot be listened on, naming `http.listen`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Json, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result};
use crate::status::{Document, Shared};

mod page;

/// Begins to listen; an empty address listens nowhere.
pub async fn bind(listen: &str) -> Result<Option<TcpListener>> {
    if listen.is_empty() {
        return Ok(None);
    }
    TcpListener::bind(listen).await.map(Some).map_err(|error| {
        Error::config(format!("`http.listen`: cannot listen on {listen}"))
            .caused_by(error)
            .hint("is another daemon running here? Give this one an address of its own, or \"\" for none: TRIBUTARY_HTTP__LISTEN")
    })
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Result<()> {
    axum::serve(listener, routes(shared))
        .await
        .map_err(|error| Error::transient("the HTTP server ended").caused_by(error))
}

/// What a daemon at this address says of itself; `None` if none answers there.
pub async fn ask_status(listen: &str) -> Option<Document> {
    let asked = tokio::time::timeout(ASK_TIMEOUT, request(listen, "/status.json")).await;
    let body = asked.ok()?.ok()??;
    serde_json::from_slice(&body).ok()
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shared.metrics().render())
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", shared.snapshot().state.label()))
}

async fn status(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Json(shared.document())
}

async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Html(page::render(&shared.snapshot()))
}

/// One plain request; the answer's body if it is a 200.
async fn request(listen: &str, path: &str) -> std::io::Result<Option<Vec<u8>>> {
    let mut stream = connect(listen).await?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some((head, rest)) = end.and_then(|end| answer.split_at_checked(end)) else { return Ok(None) };
    let is_ok = head.split(|byte| *byte == b' ').nth(1) == Some(b"200".as_slice());
    Ok(is_ok.then(|| rest.get(4..).unwrap_or_default().to_vec()))
}

/// Who listens on every address is asked on this host's own.
async fn connect(listen: &str) -> std::io::Result<TcpStream> {
    let Ok(mut address) = listen.parse::<SocketAddr>() else { return TcpStream::connect(listen).await };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    TcpStream::connect(address).await
}

/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A daemon on this host answers in milliseconds.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A document of a million tables is some 100 MB; larger is not ours.
const ANSWER_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests;
