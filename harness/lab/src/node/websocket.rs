//! Upgrading a request to the kubelet into a WebSocket (RFC 6455 §4.2) with one of its subprotocols.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::server::{Body, plain};

/// The upgraded connection.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers an upgrade to the first of `protocols` that the client offers, and gives the connection and
/// that protocol to `serve` once it is there. Any other request is refused, with what would be served.
pub(super) fn upgrade<F>(
    mut request: Request<Incoming>,
    protocols: &[&'static str],
    serve: impl FnOnce(Socket, &'static str) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send,
{
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let offered: Vec<&str> = header(SEC_WEBSOCKET_PROTOCOL)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .collect();
    let chosen = protocols
        .iter()
        .find(|protocol| offered.contains(protocol))
        .copied();
    let (Some(key), Some(protocol)) = (header(SEC_WEBSOCKET_KEY), chosen) else {
        return plain(
            StatusCode::BAD_REQUEST,
            format!(
                "served over WebSocket with a subprotocol of {}, none of which was offered",
                protocols.join(", ")
            ),
        );
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            serve(socket, protocol).await;
        }
    });
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .header(SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Body::default());
    switching.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
