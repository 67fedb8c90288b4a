//! A member's connection to another: commands over `OP_MSG`, one at a time.

use std::time::Duration;

use bson::Document;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::framing::{self, FramingError};
use crate::wire::{self, Body, WireError};

/// Another member could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// It could not be reached.
    #[error("connecting to `{0}`")]
    Connect(String, #[source] std::io::Error),
    /// The request could not be sent.
    #[error("sending a command")]
    Send(#[source] std::io::Error),
    /// The request could not be encoded.
    #[error(transparent)]
    Encode(#[from] WireError),
    /// No answer could be read.
    #[error(transparent)]
    Receive(#[from] FramingError),
    /// What came is no answer to the request.
    #[error("what came is no answer to the command")]
    Answer,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// A connection that is opened when it is needed, and again after a failure.
pub(crate) struct Link {
    address: String,
    stream: Option<TcpStream>,
    last: i32,
}

impl Link {
    /// To the member at `address`, `host:port`.
    pub(crate) fn to(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stream: None,
            last: 0,
        }
    }

    /// Sends a command of the database `admin` and waits for its answer, all within `limit`.
    ///
    /// Not cancel safe: where it is dropped the connection is not used again.
    pub(crate) async fn call(
        &mut self,
        mut command: Document,
        limit: Duration,
    ) -> Result<Document, LinkError> {
        command.insert("$db", "admin");
        // Back in its place only after a whole answer.
        let stream = self.stream.take();
        let exchange = self.exchange(stream, &command);
        let answered = timeout(limit, exchange).await;
        let (stream, answer) = answered.map_err(|_elapsed| LinkError::Late(limit))??;
        self.stream = Some(stream);
        Ok(answer)
    }

    async fn exchange(
        &mut self,
        stream: Option<TcpStream>,
        command: &Document,
    ) -> Result<(TcpStream, Document), LinkError> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        self.last = self.last.wrapping_add(1);
        let request = wire::write(self.last, 0, command, false)?;
        stream.write_all(&request).await.map_err(LinkError::Send)?;
        let answer = framing::receive(&mut stream, None).await?;
        match answer {
            Some(message) if message.answers == self.last => match message.body {
                Body::Msg { document, .. } => Ok((stream, document)),
                _ => Err(LinkError::Answer),
            },
            _ => Err(LinkError::Answer),
        }
    }

    async fn connect(&self) -> Result<TcpStream, LinkError> {
        let failed = |error| LinkError::Connect(self.address.clone(), error);
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }
}
