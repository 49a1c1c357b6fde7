//! `/metrics`, `/healthz`, `/readyz`, `/status.json`, a page for people at `/`, and `/resync`, which reads tables anew.
//!
//! Owns: the listener and the routes; for `tributary status` and `resync`, the requests that they make.
//! Does not: know what is shown; `status` and `metrics` do.
//! Holds: answering never waits for the pipeline, but for `/resync`, and that not for long; everything shown on the page is escaped;
//! nothing is changed for anybody but this host, and never for a page in a browser.
//! Fails: `Config` when the address cannot be listened on, naming `http.listen`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tables::fold::Selection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::error::{Error, Result};
use crate::pulse::STUCK;
use crate::resync::Resync;
use crate::status::{Document, Sample, Shared};

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
    let served = routes(Arc::clone(&shared)).into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        ended = axum::serve(listener, served) => {
            ended.map_err(|error| Error::transient("the HTTP server ended").caused_by(error))
        }
        () = take_samples(shared) => Ok(()),
    }
}

/// For the curves of the page, whoever looks.
async fn take_samples(shared: Arc<Shared>) {
    let mut next = tokio::time::interval(Sample::EVERY);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        next.tick().await;
        shared.sample();
    }
}

/// What a daemon at this address says of itself; `None` if none answers there.
pub async fn ask_status(listen: &str) -> Option<Document> {
    let asked = tokio::time::timeout(ASK_TIMEOUT, get_body(listen, "/status.json")).await;
    let body = asked.ok()?.ok()??;
    serde_json::from_slice(&body).ok()
}

/// What a daemon says to a request to read tables anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncAnswer {
    /// These will be read.
    Accepted(Vec<String>),
    /// The status code and why not.
    Refused(u16, String),
}

/// Asks the daemon at this address to read tables anew.
pub async fn ask_resync(listen: &str, globs: &[String]) -> Result<ResyncAnswer> {
    let body = json!({"tables": globs}).to_string();
    let head = format!(
        "POST /resync HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let broken = || Error::definite(format!("the daemon at {listen} gave no answer that can be understood"));
    let (status, body) =
        match tokio::time::timeout(RESYNC_TIMEOUT * 2, request(listen, &(head + &body))).await {
            Ok(answer) => answer.map_err(|error| broken().caused_by(error))?.ok_or_else(broken)?,
            Err(_) => return Err(broken()),
        };
    if status == StatusCode::OK.as_u16() {
        let accepted: Accepted = serde_json::from_slice(&body).map_err(|error| broken().caused_by(error))?;
        return Ok(ResyncAnswer::Accepted(accepted.tables));
    }
    let why = serde_json::from_slice::<Refused>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned(), |refused| refused.error);
    Ok(ResyncAnswer::Refused(status, why))
}

/// The body of a request to `/resync`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tables: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    tables: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused {
    error: String,
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .route("/resync", post(resync).layer(middleware::from_fn(only_from_here)))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shared.metrics().render())
}

/// Not whether rows arrive: a daemon that waits for Postgres is as well as it can be, and a restart mends nothing.
async fn healthz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    health(shared.pulse().age())
}

fn health(age: Duration) -> (StatusCode, String) {
    if age < STUCK {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("the loop stands still for {} s\n", age.as_secs()))
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
    page::answer(&shared.snapshot(), &shared.history())
}

async fn resync(State(shared): State<Arc<Shared>>, Json(asked): Json<Asked>) -> Response {
    match Selection::new(&asked.tables, &[]) {
        Ok(globs) if globs.is_empty() => return refused(StatusCode::BAD_REQUEST, "no table is named"),
        Ok(_) => {}
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    }
    let Some(stream) = shared.resync_sender() else {
        return refused(StatusCode::CONFLICT, "the daemon does not stream at the moment");
    };
    let (answer, answered) = oneshot::channel();
    let waited = tokio::time::timeout(RESYNC_TIMEOUT, async {
        stream.send(Resync { globs: asked.tables, answer }).await.ok()?;
        answered.await.ok()
    });
    match waited.await {
        Ok(Some(Ok(tables))) => Json(Accepted { tables }).into_response(),
        Ok(Some(Err(why))) => refused(StatusCode::NOT_FOUND, why),
        Ok(None) => refused(StatusCode::CONFLICT, "the stream ended meanwhile; ask again once it runs"),
        Err(_) => refused(
            StatusCode::GATEWAY_TIMEOUT,
            "the daemon is busy, and may still do it: `tributary status` shows which tables are read",
        ),
    }
}

fn refused(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(Refused { error: why.into() })).into_response()
}

/// A page that a browser of this host shows can send requests here as well, be it under a name that it made to mean this host: such a
/// request names its origin, or a host that is none of ours. JSON, which the route insists on, it cannot send elsewhere without asking.
async fn only_from_here(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return refused(
            StatusCode::FORBIDDEN,
            "only this host may ask: run `tributary resync` where the daemon runs",
        );
    }
    if request.headers().contains_key(header::ORIGIN) || !names_an_address(request.headers()) {
        return refused(StatusCode::FORBIDDEN, "not for pages in a browser");
    }
    next.run(request).await
}

/// Whether a request was sent to an address, or to `localhost`, and not to a name that anybody may have given this host.
fn names_an_address(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// The body at a path, if the answer is a 200.
async fn get_body(listen: &str, path: &str) -> std::io::Result<Option<Vec<u8>>> {
    let answer = request(listen, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")).await?;
    Ok(answer.filter(|(status, _)| *status == StatusCode::OK.as_u16()).map(|(_, body)| body))
}

/// One plain request: the answer's status and body. HTTP/1.0, so that the answer ends with the connection and is never chunked.
async fn request(listen: &str, text: &str) -> std::io::Result<Option<(u16, Vec<u8>)>> {
    let mut stream = connect(listen).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some((head, rest)) = end.and_then(|end| answer.split_at_checked(end)) else { return Ok(None) };
    let status = head.split(|byte| *byte == b' ').nth(1).and_then(|status| std::str::from_utf8(status).ok());
    let body = rest.get(4..).unwrap_or_default().to_vec();
    Ok(status.and_then(|status| status.parse().ok()).map(|status| (status, body)))
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
/// The pipeline answers between two messages, unless it waits for the store.
const RESYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// A document of a million tables is some 100 MB; larger is not ours.
const ANSWER_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests;
