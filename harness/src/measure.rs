//! Measuring: loads as open and closed loops on one thread, and the figures that come of them.
//!
//! A load runs on a thread of its own with a single-threaded runtime, so that nothing else of the agent
//! stands in its way and no operation changes threads. Which requests are sent, and whether an answer is
//! right, is the scenario's business.

mod closed_loop;
mod histogram;
mod open_loop;
mod pacer;
mod reading;
mod thread_work;
mod together;
mod warm_up;

use std::rc::Rc;
use std::time::Duration;

pub use closed_loop::{ClosedLoop, ClosedTally, closed_loop};
pub use histogram::Histogram;
pub use open_loop::{OpenLoop, OpenTally, open_loop};
pub use pacer::Pacer;
pub use reading::Reading;
pub use warm_up::WarmUp;

use thread_work::ThreadWork;

/// Something that can be asked again and again: it opens sessions, each of which repeats an operation.
pub trait Load: 'static {
    /// One connection, or whatever carries one operation at a time.
    type Session: Session + 'static;

    /// Opens one session. A load calls it once for each connection, and again after a failure.
    fn open(&self) -> impl Future<Output = Result<Self::Session, OpError>>;
}

/// One connection at work.
pub trait Session {
    /// Performs the operation once and checks the answer.
    fn run(&mut self) -> impl Future<Output = Result<Op, OpError>>;
}

/// What one operation did, beside taking time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Op {
    /// Payload moved, in bytes, headers not counted.
    pub bytes: u64,
    /// Time to open the connection, where the operation opened one; resolving the name is part of it.
    pub connect: Option<Duration>,
    /// Time from the operation's begin to the answer's first byte, where it was looked at. A listener on
    /// the laptop accepts at once, so this, and not `connect`, tells when the other end was reached.
    pub first_byte: Option<Duration>,
    /// Which of several kinds of operation it was; 0 where there is one kind.
    pub class: usize,
}

/// An operation failed, or its answer was wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct OpError(pub String);

impl From<std::io::Error> for OpError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<crate::dial::DialError> for OpError {
    fn from(error: crate::dial::DialError) -> Self {
        Self(error.to_string())
    }
}

/// Failed operations: how many, and what the first one said.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    /// How many.
    pub count: u64,
    /// What the first one said.
    pub first: Option<String>,
}

impl Errors {
    fn add(&mut self, error: &OpError) {
        self.count += 1;
        self.first.get_or_insert_with(|| error.0.clone());
    }
}

/// Runs a load to its end on this thread.
///
/// # Panics
/// Where the system gives no epoll instance.
pub fn on_this_thread<T>(load: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a single-threaded runtime needs only an epoll instance");
    tokio::task::LocalSet::new().block_on(&runtime, load)
}

/// Opens `connections` sessions at once.
///
/// # Errors
/// With the first failure: a load that cannot open what it was asked to is not the load.
async fn open_sessions<L: Load>(
    load: &Rc<L>,
    connections: usize,
) -> Result<Vec<L::Session>, OpError> {
    futures_util::future::try_join_all((0..connections).map(|_| load.open())).await
}

/// How long a session waits before it opens a new connection after a failure: a dead target must not
/// turn the load into a busy loop.
const REOPEN_DELAY: Duration = Duration::from_millis(5);
