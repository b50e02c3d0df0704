//! The server and its routes.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::oneshot;

use super::{Health, HttpError, Metrics};

/// How long requests under way may take to end once the server is told to stop.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);
/// How often histograms are emptied into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A running server; dropping it stops it.
pub struct HttpServer {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Where it listens; tells the port where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers what was asked, refuses what comes, and returns when the port is free.
    pub fn shutdown(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(addr = %self.addr, "http server panicked");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// Listens on `addr` (`host:port`) and answers from a thread of its own.
pub fn serve(addr: &str, health: Arc<dyn Health>, metrics: Metrics) -> Result<HttpServer, HttpError> {
    let listener = bind(resolve(addr)?)?;
    let addr = listener.local_addr().map_err(HttpError::Thread)?;
    listener.set_nonblocking(true).map_err(HttpError::Thread)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HttpError::Thread)?;
    let (stop, stopped) = oneshot::channel();
    let answer = Answer { health, metrics };
    let thread = std::thread::Builder::new()
        .name("http".to_string())
        .spawn(move || runtime.block_on(run(listener, answer, stopped)))
        .map_err(HttpError::Thread)?;
    tracing::info!(%addr, "http server listens");
    Ok(HttpServer { addr, stop: Some(stop), thread: Some(thread) })
}

/// What the routes answer from.
#[derive(Clone)]
struct Answer {
    health: Arc<dyn Health>,
    metrics: Metrics,
}

fn resolve(addr: &str) -> Result<SocketAddr, HttpError> {
    let fault = |problem| HttpError::Address { addr: addr.to_string(), problem };
    let none = || std::io::Error::other("the name has no address");
    addr.to_socket_addrs().map_err(fault)?.next().ok_or_else(|| fault(none()))
}

fn bind(addr: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(addr).map_err(|problem| match problem.kind() {
        std::io::ErrorKind::AddrInUse => HttpError::PortTaken { addr },
        _ => HttpError::Bind { addr, problem },
    })
}

async fn run(listener: TcpListener, answer: Answer, mut stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "http server cannot listen"),
    };
    let metrics = answer.metrics.clone();
    let (drain, draining) = oneshot::channel::<()>();
    let served = axum::serve(listener, routes(answer)).with_graceful_shutdown(async {
        let _ = draining.await;
    });
    let mut served = tokio::spawn(async { served.await });
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = upkeep.tick() => metrics.upkeep(),
            _ = &mut stopped => break,
        }
    }
    let _ = drain.send(());
    if tokio::time::timeout(SHUTDOWN_PATIENCE, &mut served).await.is_err() {
        tracing::warn!("http server stops with requests under way");
    }
}

fn routes(answer: Answer) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .fallback(unknown)
        .layer(map_response(add_headers))
        .with_state(answer)
}

async fn livez(State(answer): State<Answer>) -> impl IntoResponse {
    let alive = answer.health.alive();
    (status_code(alive), Json(serde_json::json!({ "alive": alive })))
}

async fn readyz(State(answer): State<Answer>) -> impl IntoResponse {
    let readiness = answer.health.readiness();
    (status_code(readiness.ready), Json(readiness))
}

async fn metrics(State(answer): State<Answer>) -> impl IntoResponse {
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], answer.metrics.render())
}

async fn status(State(answer): State<Answer>) -> impl IntoResponse {
    Json(answer.health.status())
}

async fn unknown() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "not found; there are /livez /readyz /metrics /status\n")
}

/// Why: a connection serves one request, so that a silent client never holds up a stop.
async fn add_headers(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn status_code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
