//! Questions and answers on connections.
//!
//! One question at a time is on a connection, so an answer cannot be another's. A connection that has done
//! its work is kept for a moment for the next question.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::AskError;
use crate::dns::framing::{framed, read_message};
use crate::dns::message;

/// The idle connections to one server.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<(TcpStream, Instant)>>);

impl Pool {
    /// Asks over an idle connection, or a new one where there is none or it does not answer soon: its server
    /// may have closed it, or its route be gone, which a connection learns of late or never.
    pub(super) async fn ask(&self, server: SocketAddr, query: &[u8]) -> Result<Vec<u8>, AskError> {
        if let Some(stream) = self.take()
            && let Ok(Ok(response)) = timeout(SOON, self.ask_through(stream, query)).await
        {
            return Ok(response);
        }
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        self.ask_through(stream, query).await
    }

    async fn ask_through(&self, mut stream: TcpStream, query: &[u8]) -> Result<Vec<u8>, AskError> {
        stream.write_all(&framed(query)?).await?;
        let response = read_message(&mut stream).await?;
        let response = response
            .ok_or(io::ErrorKind::UnexpectedEof)
            .map_err(AskError::Unreachable)?;
        if !message::answers(query, &response) || message::id(&response) != message::id(query) {
            return Err(AskError::Mismatch);
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < KEPT);
        idle.push((stream, Instant::now()));
        Ok(response)
    }

    fn take(&self) -> Option<TcpStream> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, since) = idle.pop()?;
        (since.elapsed() < KEPT).then_some(stream)
    }
}

/// How long a connection is kept for the next question. Servers close what is quiet for a few seconds
/// (RFC 7766 §6.2.3), and the route may be another by then.
const KEPT: Duration = Duration::from_secs(1);

/// How long a kept connection may take to answer.
const SOON: Duration = Duration::from_millis(200);
