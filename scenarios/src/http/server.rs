//! The web server in the pods: HTTP/1.1 and HTTP/2 without TLS on one port.
//!
//! Its answers are the same on every pod, byte for byte, so that a client can check each by comparison;
//! only `/pod` tells pods apart. `pages` are those that show what becomes of HTTP on its way.

pub(super) mod pages;

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use bytes::Bytes;
use clap::Parser;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::stream::{Check, pieces};

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "http-server",
    about: "the web server of the http scenario",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// The body of `/`: what small requests get.
pub(crate) const SMALL: &str = "Inroads: this is the inside of the cluster. The line you are reading has one hundred and twenty-eight bytes, its end included..\n";

/// What is said of a stream that came as it is.
pub(super) const RIGHT: &str = "right";

/// Payload in pieces of this size, in bytes.
const CHUNK: usize = 256 << 10;

/// The largest payload that `/bytes/N` and `/stream/N` give: 1 GiB.
const LARGEST: u64 = 1 << 30;

/// Payload that does not compress and repeats only after a piece.
static PAYLOAD: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_u32;
    let byte = || {
        // Marsaglia's xorshift32: cheap, and the same everywhere.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(byte).take(CHUNK).collect()
});

#[derive(Debug, Parser)]
#[command(name = "http-server", no_binary_name = true)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let listener = TcpListener::bind(arguments.listen).await?;
    serve(listener).await;
    Ok(())
}

/// Serves for as long as it is polled. A connection that breaks ends alone.
pub(crate) async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                drop(stream.set_nodelay(true));
                tokio::spawn(converse(stream, peer.ip()));
            }
            // Out of descriptors, most likely: others will be given back.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

/// Serves one connection, which comes from `peer`, to its end.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a date, answers are equal byte for byte.
    // Not `pipeline_flush`: with it, hyper takes a body in as fast as it is made, however slow the client reads.
    server.http1().auto_date_header(false);
    server
        .http2()
        .auto_date_header(false)
        .max_concurrent_streams(1024);
    let served = server
        .serve_connection_with_upgrades(
            TokioIo::new(stream),
            service_fn(|request| answer(request, peer)),
        )
        .await;
    if let Err(error) = served {
        tracing::debug!(error, "a connection ended");
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(request: Request<Incoming>, peer: IpAddr) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path();
    Ok(match (request.method(), path) {
        (&Method::GET, "/") => text(SMALL),
        (&Method::GET, "/healthz") => text("ok\n"),
        (&Method::GET, "/pod") => text(pod_name()),
        (&Method::GET, _) if path.starts_with("/bytes/") => {
            sized(&path["/bytes/".len()..], payload)
        }
        (&Method::GET, _) if path.starts_with("/stream/") => {
            sized(&path["/stream/".len()..], streamed)
        }
        (&Method::POST, _) if path.starts_with("/stream/") => {
            let length = path["/stream/".len()..].parse().unwrap_or_default();
            match check(request.into_body()).await?.finish(length) {
                Ok(()) => text(RIGHT),
                Err(wrong) => text(wrong),
            }
        }
        (&Method::GET, pages::PEER) => text(peer.to_string()),
        (&Method::GET, pages::SEEN) => pages::seen(&request),
        (&Method::GET, pages::MOVED) => pages::moved(&request),
        (&Method::POST, pages::BACK) => pages::back(request),
        (&Method::GET, pages::TICKS) => pages::ticks(),
        (&Method::GET, pages::SOCKET) => pages::socket(request),
        (&Method::POST, "/upload") => text(count(request.into_body()).await?.to_string()),
        _ => refusal(StatusCode::NOT_FOUND, format!("there is no {path}\n")),
    })
}

fn text(body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn refusal(status: StatusCode, body: String) -> Response<Body> {
    let mut response = text(body);
    *response.status_mut() = status;
    response
}

fn pod_name() -> String {
    std::env::var("HOSTNAME").unwrap_or_default()
}

/// An answer of as many bytes as `number` says.
fn sized(number: &str, answer: impl FnOnce(u64) -> Response<Body>) -> Response<Body> {
    match number.parse() {
        Ok(count) if count <= LARGEST => answer(count),
        _ => refusal(
            StatusCode::BAD_REQUEST,
            format!("no number of bytes up to {LARGEST}: {number}\n"),
        ),
    }
}

/// `count` bytes of the stream that differs at every place, with their number in the header.
fn streamed(count: u64) -> Response<Body> {
    let pieces = stream::iter(pieces(count).map(|piece| Ok(Frame::data(piece))));
    with_length(count, BodyExt::boxed(StreamBody::new(pieces)))
}

/// `count` bytes of payload, with their number in the header.
fn payload(count: u64) -> Response<Body> {
    let pieces = stream::unfold(count, |left| async move {
        let size = left.min(CHUNK as u64);
        (size > 0).then(|| {
            let piece = PAYLOAD.slice(..usize::try_from(size).unwrap_or(CHUNK));
            (Ok(Frame::data(piece)), left - size)
        })
    });
    with_length(count, BodyExt::boxed(StreamBody::new(pieces)))
}

fn with_length(count: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(count));
    response
}

/// Reads a body to its end and compares it with the stream that differs at every place.
async fn check(mut body: Incoming) -> Result<Check, hyper::Error> {
    let mut check = Check::default();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            check.take(data);
        }
    }
    Ok(check)
}

/// Reads a body to its end and counts its bytes.
async fn count(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_answer_is_as_long_as_it_says() {
        assert_eq!(SMALL.len(), 128);
    }
}
