//! Asking other servers, and passing questions on to them as they came.
//!
//! Nothing is cached or rewritten: a message goes out with its bytes as they were, its id apart, and so does
//! the answer. An answer counts only from the server that was asked, with the id and the question that it
//! was asked with (RFC 5452).

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::message;
use super::serve::{Reply, Transport};
use udp::{Asking, Channel};

/// How long and how often servers are asked before a question counts as unanswered.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one attempt may take.
    pub attempt: Duration,
    /// How many attempts there are, each at the next server; what fails at once counts too.
    pub attempts: usize,
}

/// Servers that are asked, the first first. One that answered when another did not is kept.
///
/// Clones share sockets. They close with the last clone; questions that are open then go unanswered.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    servers: Vec<Server>,
    patience: Patience,
    /// The server that the next question begins with.
    preferred: AtomicUsize,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Server {
    address: SocketAddr,
    channel: Mutex<Option<Arc<Channel>>>,
    connections: tcp::Pool,
}

impl Upstream {
    /// Asks `servers`, which may be none: then every question fails.
    #[must_use]
    pub fn new(servers: &[SocketAddr], patience: Patience) -> Self {
        let server = |address: &SocketAddr| Server {
            address: *address,
            channel: Mutex::default(),
            connections: tcp::Pool::default(),
        };
        Self(Arc::new(Inner {
            servers: servers.iter().map(server).collect(),
            patience,
            preferred: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Passes a question on, by the transport it came with: what does not fit UDP comes back cut, and the
    /// client asks again over TCP. Where no server answers, `SERVFAIL` is the answer.
    ///
    /// `query` holds a question, as [`message::question`] has it.
    pub fn relay(&self, query: &[u8], reply: Reply) {
        match reply.transport() {
            Transport::Udp => self.ask_udp(query, move |query, outcome| match outcome {
                Ok(response) => reply.send(response),
                Err(error) => fail(query, reply, &error),
            }),
            Transport::Tcp => {
                let (upstream, query) = (self.clone(), query.to_vec());
                self.0.spawn(async move {
                    match upstream.ask_tcp(&query).await {
                        Ok(response) => reply.send(&response),
                        Err(error) => fail(&query, reply, &error),
                    }
                });
            }
        }
    }

    /// Asks over UDP, and over TCP where the answer is cut.
    ///
    /// # Errors
    /// Where no server gives an answer.
    pub async fn ask(&self, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let (answer, answered) = oneshot::channel();
        self.ask_udp(query, |_query, outcome| {
            drop(answer.send(outcome.map(<[u8]>::to_vec)));
        });
        // The sender is dropped only with all sockets, which we hold.
        let response = answered.await.unwrap_or(Err(AskError::TimedOut))?;
        if message::is_truncated(&response) {
            return self.ask_tcp(query).await;
        }
        Ok(response)
    }

    /// Asks over UDP and calls `done` with the query and the answer, from whatever task receives it.
    fn ask_udp(
        &self,
        query: &[u8],
        done: impl FnOnce(&[u8], Result<&[u8], AskError>) + Send + 'static,
    ) {
        let asking = Asking {
            query: query.into(),
            attempt: 0,
            first: self.0.preferred.load(Ordering::Relaxed),
            done: Box::new(done),
        };
        self.0.attempt(asking, AskError::NoServer);
    }

    /// Asks over TCP.
    async fn ask_tcp(&self, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let Patience { attempt, attempts } = self.0.patience;
        let first = self.0.preferred.load(Ordering::Relaxed);
        let mut last = AskError::NoServer;
        for number in 0..attempts {
            let Some((index, server)) = self.0.server(first + number) else {
                break;
            };
            let asked = server.connections.ask(server.address, query);
            match tokio::time::timeout(attempt, asked).await {
                Ok(Ok(response)) => {
                    self.0.prefer(index);
                    return Ok(response);
                }
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = AskError::TimedOut,
            }
        }
        Err(last)
    }

    /// Closes all sockets, for all clones. Open questions go unanswered.
    pub fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
    }

    /// Closes all sockets and returns when they are closed.
    pub async fn shutdown(&self) {
        self.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    /// Makes the next attempt at a question whose last one failed, or gives it up.
    fn attempt(self: &Arc<Self>, mut asking: Asking, mut last: AskError) {
        while asking.attempt < self.patience.attempts {
            let Some((index, server)) = self.server(asking.first + asking.attempt) else {
                break;
            };
            asking.attempt += 1;
            let channel = match self.channel(index, server) {
                Ok(channel) => channel,
                Err(error) => {
                    last = error.into();
                    continue;
                }
            };
            match channel.ask(asking, self.patience.attempt) {
                Ok(()) => return,
                Err((unasked, AskError::Overloaded)) => {
                    (asking, last) = (unasked, AskError::Overloaded);
                    break;
                }
                Err((unasked, error)) => {
                    self.abandon(index, &channel, &error);
                    (asking, last) = (unasked, error);
                }
            }
        }
        (asking.done)(&asking.query, Err(last));
    }

    /// Runs a task for as long as there is somebody to ask.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stop.clone().cancelled_owned();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stopped => {}
            }
        });
    }

    /// Server number `number`, counted round and round.
    fn server(&self, number: usize) -> Option<(usize, &Server)> {
        let index = number.checked_rem(self.servers.len())?;
        Some((index, &self.servers[index]))
    }

    /// The channel to a server, or a new one where that has served its time.
    fn channel(self: &Arc<Self>, index: usize, server: &Server) -> io::Result<Arc<Channel>> {
        let mut current = server
            .channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = &*current
            && channel.is_fresh()
        {
            return Ok(channel.clone());
        }
        let channel = Arc::new(Channel::open(server.address)?);
        self.spawn(udp::receive(channel.clone(), Arc::downgrade(self), index));
        *current = Some(channel.clone());
        Ok(channel)
    }

    /// Begins the next questions with a server that has answered where another has not.
    fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }

    /// Asks nothing more through a channel. Behind a Service each socket is bound to one endpoint, so where
    /// one gets no answer, the next one may.
    fn retire(&self, index: usize, channel: &Arc<Channel>) {
        let current = &self.servers[index].channel;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|it| Arc::ptr_eq(it, channel)) {
            *current = None;
        }
    }

    /// Leaves a channel that failed. What is open on it is asked elsewhere.
    fn abandon(self: &Arc<Self>, index: usize, channel: &Arc<Channel>, error: &AskError) {
        self.retire(index, channel);
        for asking in channel.close() {
            self.attempt(asking, error.clone());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Answers a question that no server answered.
fn fail(query: &[u8], reply: Reply, error: &AskError) {
    tracing::debug!(%error, client = %reply.client(), "a question was not answered");
    reply.send(&message::refusal(query, ResponseCode::ServFail));
}

/// A question got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// There is nobody to ask.
    #[error("there is no server to ask")]
    NoServer,
    /// Nobody answered in time.
    #[error("no server answered in time")]
    TimedOut,
    /// So many questions are open that no more are taken.
    #[error("too many questions are open")]
    Overloaded,
    /// The kernel or the server refused; the kind of the last refusal.
    #[error("the server cannot be asked: {0}")]
    Unreachable(io::ErrorKind),
    /// What came over TCP is no answer to the question.
    #[error("the server answered something else")]
    Mismatch,
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.kind())
    }
}

#[cfg(test)]
mod tests;
