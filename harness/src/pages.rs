//! A few pages over HTTP/1.1: readiness, logs, a greeting.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

/// What a path shows.
pub type Page = Response<Full<Bytes>>;

/// A page's text.
pub fn page(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(text.into()));
    *page.status_mut() = status;
    page.headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    page
}

/// Plain text.
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Page {
    page(status, "text/plain; charset=utf-8", text)
}

/// What there is at a path where nothing is.
pub fn not_found() -> Page {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Listens for [`serve`].
///
/// # Errors
/// [`ListenError`], naming the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

/// Pages could not be served.
#[derive(Debug, thiserror::Error)]
#[error("listening for HTTP on `{address}`")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Shows what `show` has for a path, for as long as it runs; a broken connection ends alone.
pub async fn serve(
    listener: TcpListener,
    show: impl Fn(&str) -> Page + Send + Sync + 'static,
) -> Infallible {
    let show = Arc::new(show);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _client)) => {
                connections.spawn(converse(stream, show.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, show: Arc<impl Fn(&str) -> Page + Send + Sync + 'static>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let page = match *request.method() {
            Method::GET | Method::HEAD => show(request.uri().path()),
            _ => plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "there is nothing to change here\n",
            ),
        };
        std::future::ready(Ok::<_, Infallible>(page))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection for pages broke");
    }
}

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pause, lest an error that stays turns the loop into a busy one.
const AFTER_ERROR: Duration = Duration::from_millis(10);
