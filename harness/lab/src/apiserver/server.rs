//! Listening, TLS and HTTP: connections in, [`handle`] for each request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{handle::handle, proxy::kubelet::Kubelets, rest::Rest, tokens::Tokens};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// How long open requests may go on once the server stops.
const GRACE: Duration = Duration::from_secs(2);
/// After a failed accept (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const STREAMS_PER_CONNECTION: u32 = 2000;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What the handlers of all requests share.
pub(crate) struct Server {
    pub(crate) rest: Arc<Rest>,
    pub(crate) tokens: Tokens,
    pub(crate) kubelets: Kubelets,
    pub(crate) version: String,
    pub(crate) advertise: SocketAddr,
    pub(crate) stop: CancellationToken,
}

/// Accepts connections until the server stops, and then lets the open ones end.
pub(crate) async fn serve(server: Arc<Server>, listeners: Vec<TcpListener>, tls: TlsAcceptor) {
    let connections = TaskTracker::new();
    for listener in listeners {
        let (server, tls) = (Arc::clone(&server), tls.clone());
        let tracker = connections.clone();
        connections.spawn(accept(server, listener, tls, tracker));
    }
    server.stop.cancelled().await;
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        debug!(
            open = connections.len(),
            "connections are still open; they end with the runtime"
        );
    }
}

async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    tls: TlsAcceptor,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (server, tls) = (Arc::clone(&server), tls.clone());
                connections.spawn(serve_connection(server, stream, peer, tls));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_LIMIT, tls.accept(stream)) => shaken,
        () = server.stop.cancelled() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%peer, %error, "the TLS handshake failed"),
        Err(_elapsed) => return debug!(%peer, "the TLS handshake took too long"),
    };

    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, std::convert::Infallible>(handle(server, request).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = server.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection ended early");
    }
}
