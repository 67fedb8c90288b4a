//! Questions and answers in datagrams.
//!
//! A [`Channel`] is a socket connected to one server, so the kernel drops what others send and reports a
//! refusal. It carries many questions, told apart by random ids, and is replaced after a second: the port
//! is not there to be guessed for long, and the address we ask from follows the routes, which come and go
//! with a way in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{AskError, Inner};
use crate::dns::{message, serve};

/// What is called with the query and its outcome.
type Done = Box<dyn FnOnce(&[u8], Result<&[u8], AskError>) + Send>;

/// A question on its way to an answer.
pub(super) struct Asking {
    /// The message as it came, with the id that its client knows.
    pub(super) query: Box<[u8]>,
    /// How many attempts were made.
    pub(super) attempt: usize,
    /// The server of the first attempt.
    pub(super) first: usize,
    pub(super) done: Done,
}

/// A socket to one server, and the questions that are open on it.
pub(super) struct Channel {
    socket: UdpSocket,
    opened: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// By the id on the wire: the question, and until when it may be answered.
    askings: HashMap<u16, (Asking, Instant)>,
    /// Nothing more is received, so nothing more may be asked.
    closed: bool,
}

impl Channel {
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        serve::enlarge_buffers(&socket);
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            opened: Instant::now(),
            open: Mutex::default(),
        })
    }

    /// Whether new questions may go through it.
    pub(super) fn is_fresh(&self) -> bool {
        self.opened.elapsed() < LIFE
    }

    /// Sends a question. What cannot be sent comes back.
    pub(super) fn ask(
        self: &Arc<Self>,
        asking: Asking,
        limit: Duration,
    ) -> Result<(), (Asking, AskError)> {
        let mut wire = asking.query.to_vec();
        let id = self.enter(asking, Instant::now() + limit)?;
        message::set_id(&mut wire, id);
        match self.socket.try_send(&wire) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let channel = self.clone();
                tokio::spawn(async move { drop(channel.socket.send(&wire).await) });
                Ok(())
            }
            // Where it is no longer open, whoever took it deals with it.
            Err(error) => match self.lock().askings.remove(&id) {
                Some((asking, _)) => Err((asking, error.into())),
                None => Ok(()),
            },
        }
    }

    /// Takes a question in, under an id that no other has and nobody can guess.
    fn enter(&self, asking: Asking, until: Instant) -> Result<u16, (Asking, AskError)> {
        let mut open = self.lock();
        if open.closed {
            return Err((asking, AskError::Unreachable(io::ErrorKind::NotConnected)));
        }
        if open.askings.len() >= MAX_OPEN {
            return Err((asking, AskError::Overloaded));
        }
        loop {
            let id = rand::random();
            if let Entry::Vacant(free) = open.askings.entry(id) {
                free.insert((asking, until));
                return Ok(id);
            }
        }
    }

    /// Hands an answer to whoever asked, and returns how many attempts it took. Anything else is dropped,
    /// and the question stays open for the real one.
    fn answer(&self, response: &mut [u8]) -> Option<usize> {
        if response.len() < message::HEADER {
            return None;
        }
        let id = message::id(response);
        let asking = match self.lock().askings.entry(id) {
            Entry::Occupied(found) if message::answers(&found.get().0.query, response) => {
                found.remove().0
            }
            _ => return None,
        };
        message::set_id(response, message::id(&asking.query));
        (asking.done)(&asking.query, Ok(response));
        Some(asking.attempt)
    }

    /// Takes out what is overdue.
    fn overdue(&self) -> Vec<Asking> {
        let now = Instant::now();
        let mut open = self.lock();
        let overdue = open.askings.extract_if(|_, (_, until)| *until <= now);
        overdue.map(|(_, (asking, _))| asking).collect()
    }

    /// Closes it for further questions and takes out the open ones.
    pub(super) fn close(&self) -> Vec<Asking> {
        let mut open = self.lock();
        open.closed = true;
        open.askings
            .drain()
            .map(|(_, (asking, _))| asking)
            .collect()
    }

    /// Closes it where its time is over and no question is open. True where it is closed.
    fn close_if_done(&self) -> bool {
        let over = self.opened.elapsed() >= 2 * LIFE;
        let mut open = self.lock();
        open.closed |= over && open.askings.is_empty();
        open.closed
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives for a channel until it is closed.
pub(super) async fn receive(channel: Arc<Channel>, upstream: Weak<Inner>, index: usize) {
    let mut buffer = vec![0; message::MAX];
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = channel.socket.recv(&mut buffer) => {
                let answered = received.map(|length| channel.answer(&mut buffer[..length]));
                if matches!(answered, Ok(None | Some(1))) {
                    continue;
                }
                let Some(upstream) = upstream.upgrade() else { return };
                match answered {
                    Ok(_) => upstream.prefer(index),
                    Err(error) => return upstream.abandon(index, &channel, &error.into()),
                }
            }
            _ = clock.tick() => {
                let Some(upstream) = upstream.upgrade() else { return };
                let overdue = channel.overdue();
                if !overdue.is_empty() {
                    upstream.retire(index, &channel);
                }
                for asking in overdue {
                    upstream.attempt(asking, AskError::TimedOut);
                }
                if channel.close_if_done() {
                    return upstream.retire(index, &channel);
                }
            }
        }
    }
}

/// How long new questions go through a channel. It stays another such time before it closes, for those
/// that were about to.
const LIFE: Duration = Duration::from_secs(1);

/// How often it is seen what is overdue.
const TICK: Duration = Duration::from_millis(50);

/// Questions open on a channel at once. A quarter of all ids, so that a free one is soon found.
const MAX_OPEN: usize = 16_384;
