//! The connections of a server.
//!
//! Questions on one connection are answered as their answers come, in any order (RFC 7766 §6.2.1.1).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{AFTER_ERROR, Reply, Responder, Way};
use crate::dns::framing::{framed, read_message};

/// Accepts for as long as it runs; a broken connection ends alone.
pub(super) async fn serve(listener: TcpListener, responder: Arc<impl Responder>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, client)) => {
                let responder = responder.clone();
                connections.spawn(async move {
                    if let Err(error) = converse(stream, client, responder).await {
                        tracing::debug!(%error, %client, "a connection for DNS broke");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// One connection: until the client is done or quiet for too long, and the last open answer is out.
async fn converse(
    stream: TcpStream,
    client: SocketAddr,
    responder: Arc<impl Responder>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, output) = stream.into_split();
    let (answers, outgoing) = mpsc::unbounded_channel();
    let reading = async {
        read_questions(input, client, responder, answers).await?;
        // What is still open is answered before the connection closes.
        std::future::pending().await
    };
    tokio::select! {
        result = reading => result,
        result = write_answers(output, outgoing) => result,
    }
}

/// Reads until the client ends its stream or is quiet for too long; either is an orderly end.
async fn read_questions(
    mut input: OwnedReadHalf,
    client: SocketAddr,
    responder: Arc<impl Responder>,
    answers: mpsc::UnboundedSender<Vec<u8>>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_OPEN));
    while let Ok(read) = timeout(QUIET, read_message(&mut input)).await {
        let Some(message) = read? else { break };
        let place = places.clone().acquire_owned().await;
        let way = Way::Tcp {
            connection: answers.clone(),
            _place: place.expect("the semaphore is never closed"),
        };
        responder.respond(&message, Reply { client, way });
    }
    Ok(())
}

/// Writes until nobody is left who could answer.
async fn write_answers(
    mut output: OwnedWriteHalf,
    mut answers: mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(answer) = answers.recv().await {
        timeout(QUIET, output.write_all(&framed(&answer)?)).await??;
    }
    output.shutdown().await
}

/// How long a client may be quiet, or not read what it asked for. RFC 7766 §6.2.3 asks for a few seconds;
/// CoreDNS takes ten.
const QUIET: Duration = Duration::from_secs(10);

/// Connections at once. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;

/// Questions of one connection that are not answered yet. Further ones wait to be read.
const MAX_OPEN: usize = 64;
