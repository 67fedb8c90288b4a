//! Requests that end elsewhere: at a kubelet, in a pod, behind a Service.

pub(crate) mod kubelet;
pub(crate) mod reverse;
mod target;
mod upgrade;

pub(crate) use upgrade::Tunnels;

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

use super::{respond::Body, status::Status};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connects, or says to what it could not.
async fn connect(address: SocketAddr) -> Result<TcpStream, Status> {
    let failed = |why: &dyn std::fmt::Display| {
        Status::service_unavailable(format!(
            "error trying to reach service: dial tcp {address}: {why}"
        ))
    };
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = connected
        .map_err(|elapsed| failed(&elapsed))?
        .map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    Ok(stream)
}

/// Sends one request over a connection of its own. The connection lives as long as the answer's body,
/// or as what it is upgraded to.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<Response<Incoming>, Status> {
    let failed = |error: hyper::Error| {
        Status::service_unavailable(format!("error trying to reach service: {error}"))
    };
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a proxied connection ended early");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

/// The protocol that a request wants to change to.
fn wanted_upgrade(headers: &HeaderMap) -> Option<String> {
    let connection = headers
        .get(header::CONNECTION)
        .and_then(|value| value.to_str().ok());
    let tokens = connection.unwrap_or_default().split(',');
    let upgrades = tokens
        .into_iter()
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    protocol.filter(|_| upgrades).map(str::to_ascii_lowercase)
}

/// Takes out what is between this server and its neighbour only (RFC 9110, section 7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<header::HeaderName>().ok())
        .collect();
    let fixed = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    for name in named.iter().chain(&fixed) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Puts the wish to change protocols back, after [`remove_hop_by_hop`].
fn restore_upgrade(headers: &mut HeaderMap, protocol: &str) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        headers.insert(header::UPGRADE, protocol);
    }
}
