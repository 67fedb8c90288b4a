//! After `101 Switching Protocols`: bytes, both ways, unread.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{self, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::apiserver::respond::{Body, full};

const BUFFER: usize = 128 * 1024;
/// How long one side may go on sending after the other has ended.
const LINGER: Duration = Duration::from_secs(10);

/// Where tunnels run: they outlive their requests, not the server.
#[derive(Clone, Default)]
pub(crate) struct Tunnels {
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Takes what a request will be upgraded to.
pub(super) fn on_client<B>(request: &mut Request<B>) -> OnUpgrade {
    hyper::upgrade::on(request)
}

/// Passes a 101 on to the client, and then the bytes of both sides.
pub(super) fn tunnel(
    client: OnUpgrade,
    mut answer: Response<Incoming>,
    tunnels: &Tunnels,
) -> Response<Body> {
    debug_assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let server = hyper::upgrade::on(&mut answer);
    let stop = tunnels.stop.clone();
    tunnels.tasks.spawn(async move {
        let run = async {
            let (client, server) = tokio::try_join!(client, server).map_err(io::Error::other)?;
            join(TokioIo::new(client), TokioIo::new(server), LINGER).await
        };
        let ended = stop.run_until_cancelled_owned(run).await;
        if let Some(Err(error)) = ended {
            debug!(%error, "a tunnel ended with an error");
        }
    });
    let (parts, _body) = answer.into_parts();
    Response::from_parts(parts, full(Default::default()))
}

/// Copies both ways until both sides have ended, or one has and the other does not follow.
async fn join(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    linger: Duration,
) -> io::Result<()> {
    let (client_read, client_write) = io::split(client);
    let (server_read, server_write) = io::split(server);
    let mut up = std::pin::pin!(copy(client_read, server_write));
    let mut down = std::pin::pin!(copy(server_read, client_write));
    let rest = tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(linger, down).await
        }
        ended = &mut down => {
            ended?;
            timeout(linger, up).await
        }
    };
    rest.unwrap_or(Ok(()))
}

/// Copies one direction, and passes its end on.
async fn copy(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    loop {
        let filled = from.fill_buf().await?;
        if filled.is_empty() {
            return to.shutdown().await;
        }
        let length = filled.len();
        to.write_all(filled).await?;
        from.consume(length);
        // What TLS holds back would wait for the next bytes from the other side.
        if from.buffer().is_empty() {
            to.flush().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn bytes_and_ends_pass_both_ways() {
        let (mut client, near) = io::duplex(64);
        let (far, mut server) = io::duplex(64);
        let joined = tokio::spawn(join(near, far, LINGER));
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"ping");
        server.write_all(b"late answer").await.unwrap();
        server.shutdown().await.unwrap();
        heard.clear();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"late answer");
        joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_side_that_never_ends_does_not_keep_the_tunnel() {
        let (client, near) = io::duplex(64);
        let (far, _server) = io::duplex(64);
        drop(client);
        join(near, far, Duration::from_millis(10)).await.unwrap();
    }
}
