//! The loads of the `http` scenario.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use inroads_harness::clock;
use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::measure::{Load, Op, OpError, Session};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::server::SMALL;

/// Where requests go: a host and port as an unmodified client has them.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Small requests over connections that stay.
pub(super) struct KeepAlive {
    pub(super) dialer: Dialer,
    pub(super) to: Destination,
}

pub(super) struct KeepAliveSession {
    connection: Connection,
    request: Rc<[u8]>,
    /// What every answer must equal: the whole of it, or its body where a server in the middle writes the
    /// head, with the time of day in it.
    answer: Vec<u8>,
}

impl Load for KeepAlive {
    type Session = KeepAliveSession;

    async fn open(&self) -> Result<KeepAliveSession, OpError> {
        let mut connection = Connection::open(&self.dialer, &self.to.host, self.to.port).await?;
        let request: Rc<[u8]> = get(connection.route(), "/", "keep-alive").into();
        // The first answer is read with care; what follows must equal it.
        connection.send(&request).await?;
        let (answer, body) = connection.receive_whole().await?;
        if answer[body..] != *SMALL.as_bytes() {
            let seen = String::from_utf8_lossy(&answer[body..]).into_owned();
            return Err(OpError(format!("another server answered: {seen:?}")));
        }
        let compared = if connection.route().has_middleman() {
            answer[body..].to_vec()
        } else {
            answer
        };
        Ok(KeepAliveSession {
            connection,
            request,
            answer: compared,
        })
    }
}

impl Session for KeepAliveSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        self.connection.send(&self.request).await?;
        if self.connection.route().has_middleman() {
            let (whole, body) = self.connection.receive_whole().await?;
            if whole[body..] != self.answer {
                return Err(OpError("another answer came than was asked for".to_owned()));
            }
        } else {
            self.connection.receive_exactly(&self.answer).await?;
        }
        Ok(Op {
            bytes: SMALL.len() as u64,
            ..Op::default()
        })
    }
}

/// A new connection for every small request, closed by the server.
pub(super) struct OneShot {
    pub(super) dialer: Dialer,
    pub(super) to: Destination,
}

pub(super) struct OneShotSession {
    dialer: Dialer,
    to: Destination,
    request: Vec<u8>,
}

impl Load for OneShot {
    type Session = OneShotSession;

    async fn open(&self) -> Result<OneShotSession, OpError> {
        let route = self.dialer.http_route(&self.to.host, self.to.port)?;
        let request = get(&route, "/", "close");
        Ok(OneShotSession {
            dialer: self.dialer.clone(),
            to: self.to.clone(),
            request,
        })
    }
}

impl Session for OneShotSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        let begun = clock::now();
        let mut connection = Connection::open(&self.dialer, &self.to.host, self.to.port).await?;
        let connect = begun.elapsed();
        connection.send(&self.request).await?;
        let answer = connection.receive().await?;
        if answer.length != SMALL.len() as u64 {
            return Err(OpError(format!("the answer has {} bytes", answer.length)));
        }
        connection.expect_end().await?;
        Ok(Op {
            bytes: answer.length,
            connect: Some(connect),
            first_byte: Some(answer.first_byte - begun),
            ..Op::default()
        })
    }
}

/// Answers of a given size, over connections that stay, spread over several destinations.
pub(super) struct Download {
    pub(super) dialer: Dialer,
    pub(super) to: Vec<Destination>,
    pub(super) size: u64,
    pub(super) next: Cell<usize>,
}

pub(super) struct DownloadSession {
    connection: Connection,
    request: Vec<u8>,
    size: u64,
}

impl Load for Download {
    type Session = DownloadSession;

    async fn open(&self) -> Result<DownloadSession, OpError> {
        let to = in_turn(&self.to, &self.next)?;
        let connection = Connection::open(&self.dialer, &to.host, to.port).await?;
        let path = format!("/bytes/{}", self.size);
        let request = get(connection.route(), &path, "keep-alive");
        Ok(DownloadSession {
            connection,
            request,
            size: self.size,
        })
    }
}

impl Session for DownloadSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        self.connection.send(&self.request).await?;
        let answer = self.connection.receive().await?;
        if answer.length != self.size {
            return Err(OpError(format!(
                "{} bytes came, {} were asked for",
                answer.length, self.size
            )));
        }
        Ok(Op {
            bytes: answer.length,
            ..Op::default()
        })
    }
}

/// Requests with a body of a given size, each confirmed by the server, spread over several destinations.
pub(super) struct Upload {
    pub(super) dialer: Dialer,
    pub(super) to: Vec<Destination>,
    pub(super) size: usize,
    pub(super) next: Cell<usize>,
}

pub(super) struct UploadSession {
    connection: Connection,
    head: Vec<u8>,
    body: Rc<[u8]>,
}

impl Load for Upload {
    type Session = UploadSession;

    async fn open(&self) -> Result<UploadSession, OpError> {
        let to = in_turn(&self.to, &self.next)?;
        let connection = Connection::open(&self.dialer, &to.host, to.port).await?;
        let HttpRoute { host, prefix } = connection.route();
        let head = format!(
            "POST {prefix}/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n",
            self.size
        );
        Ok(UploadSession {
            connection,
            head: head.into_bytes(),
            body: vec![0x5a; self.size].into(),
        })
    }
}

impl Session for UploadSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        self.connection.send(&self.head).await?;
        self.connection.send(&self.body).await?;
        let mut counted = Vec::new();
        self.connection
            .receive_with(|piece| counted.extend_from_slice(piece))
            .await?;
        if counted != self.body.len().to_string().as_bytes() {
            let counted = String::from_utf8_lossy(&counted);
            return Err(OpError(format!(
                "the server counted {counted} bytes of {}",
                self.body.len()
            )));
        }
        Ok(Op {
            bytes: self.body.len() as u64,
            ..Op::default()
        })
    }
}

/// Small requests as streams of a few HTTP/2 connections (RFC 9113).
pub(super) struct Http2 {
    pub(super) dialer: Dialer,
    pub(super) to: Destination,
    /// A place for each connection; the sessions share them in turn.
    pub(super) connections: Vec<Mutex<Option<SendRequest<Empty<Bytes>>>>>,
    pub(super) next: Cell<usize>,
}

pub(super) struct Http2Session {
    sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
}

impl Load for Http2 {
    type Session = Http2Session;

    async fn open(&self) -> Result<Http2Session, OpError> {
        let turn = self.next.get();
        self.next.set(turn + 1);
        let HttpRoute { host, prefix } = self.dialer.http_route(&self.to.host, self.to.port)?;
        let request = Request::get(format!("http://{host}{prefix}/"));
        let request = request
            .body(Empty::new())
            .map_err(|error| OpError(error.to_string()))?;
        Ok(Http2Session {
            sender: self.sender(turn % self.connections.len()).await?,
            request,
        })
    }
}

impl Http2 {
    /// Connection number `index`, opened where it is not or no longer there.
    async fn sender(&self, index: usize) -> Result<SendRequest<Empty<Bytes>>, OpError> {
        let mut place = self.connections[index].lock().await;
        if let Some(sender) = place.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = self.dialer.http(&self.to.host, self.to.port).await?;
        let handshake = http2::handshake(LocalExecutor, TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| OpError(error.to_string()))?;
        tokio::task::spawn_local(connection);
        *place = Some(sender.clone());
        Ok(sender)
    }
}

impl Session for Http2Session {
    async fn run(&mut self) -> Result<Op, OpError> {
        let failed = |error: hyper::Error| OpError(error.to_string());
        self.sender.ready().await.map_err(failed)?;
        let answer = self
            .sender
            .send_request(self.request.clone())
            .await
            .map_err(failed)?;
        if answer.status() != 200 {
            return Err(OpError(format!("status {}", answer.status())));
        }
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(failed)?
            .to_bytes();
        if body != SMALL.as_bytes() {
            return Err(OpError("another answer came than was asked for".to_owned()));
        }
        Ok(Op {
            bytes: body.len() as u64,
            ..Op::default()
        })
    }
}

/// Runs hyper's own tasks on the load's thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

fn get(route: &HttpRoute, path: &str, connection: &str) -> Vec<u8> {
    let HttpRoute { host, prefix } = route;
    format!("GET {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n")
        .into_bytes()
}

/// The next of several destinations, one after the other.
fn in_turn<'a>(to: &'a [Destination], next: &Cell<usize>) -> Result<&'a Destination, OpError> {
    let turn = next.get();
    next.set(turn + 1);
    to.get(turn % to.len().max(1))
        .ok_or_else(|| OpError("there is nowhere to send requests to".to_owned()))
}
