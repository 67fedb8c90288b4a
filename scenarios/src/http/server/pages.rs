//! The pages of the web server that show what becomes of HTTP on its way: what the server saw of a request, a
//! redirect, answers in pieces, and a WebSocket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{Body, refusal, text};

/// The page that says where the request came from.
pub(crate) const PEER: &str = "/peer";

/// The page that says what the server saw.
pub(crate) const SEEN: &str = "/seen";

/// The page that has moved to [`SEEN`], with the whole address in its answer.
pub(crate) const MOVED: &str = "/moved";

/// The page that gives the body back, as it comes.
pub(crate) const BACK: &str = "/back";

/// The page that comes in pieces, with a pause before each but the first.
pub(crate) const TICKS: &str = "/ticks";

/// The page that is a WebSocket, which gives every message back.
pub(crate) const SOCKET: &str = "/socket";

/// The pieces of [`TICKS`].
pub(crate) const PIECES: [&str; 3] = ["one\n", "two\n", "three\n"];

/// The pause before each of them but the first.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// The largest message of a WebSocket, in bytes.
const LARGEST_MESSAGE: usize = 1 << 20;

/// What the server saw of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: String,
    /// The path.
    pub(crate) path: String,
    /// The value of `Host`, or what HTTP/2 has instead.
    pub(crate) host: String,
    /// The value of `Authorization`; empty where there is none.
    pub(crate) authorization: String,
}

pub(super) fn seen(request: &Request<Incoming>) -> Response<Body> {
    let seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        host: host(request),
        authorization: header(request, &AUTHORIZATION),
    };
    match serde_json::to_string(&seen) {
        Ok(json) => text(json),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// A redirect to an absolute address, as frameworks make it of what they see (RFC 9110 §10.2.2).
pub(super) fn moved(request: &Request<Incoming>) -> Response<Body> {
    let location = format!("http://{}{SEEN}", host(request));
    let Ok(location) = HeaderValue::from_str(&location) else {
        return refusal(StatusCode::BAD_REQUEST, "the host is none\n".to_owned());
    };
    let mut response = text("it is elsewhere\n");
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, location);
    response
}

pub(super) fn back(request: Request<Incoming>) -> Response<Body> {
    Response::new(request.into_body().boxed())
}

pub(super) fn ticks() -> Response<Body> {
    let pieces = stream::iter(PIECES.into_iter().enumerate()).then(|(index, piece)| async move {
        if index > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(piece.as_bytes())))
    });
    Response::new(BodyExt::boxed(StreamBody::new(Box::pin(pieces))))
}

/// RFC 6455 §4.2.2: the server's handshake.
pub(super) fn socket(mut request: Request<Incoming>) -> Response<Body> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    let accept = accept.and_then(|accept| HeaderValue::from_str(&accept).ok());
    let Some(accept) = accept else {
        let text = "this is a WebSocket, which the request does not ask for\n";
        return refusal(StatusCode::BAD_REQUEST, text.to_owned());
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => give_back(stream).await,
            Err(error) => tracing::debug!(%error, "a WebSocket did not begin"),
        }
    });
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn give_back(stream: Upgraded) {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE));
    let stream = TokioIo::new(stream);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    while let Some(Ok(message)) = socket.next().await {
        let is_data = message.is_text() || message.is_binary();
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn host(request: &Request<Incoming>) -> String {
    let authority = request.uri().authority().map(ToString::to_string);
    authority.unwrap_or_else(|| header(request, &HOST))
}

fn header(request: &Request<Incoming>, name: &HeaderName) -> String {
    let value = request.headers().get(name);
    let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value.unwrap_or_default()
}
