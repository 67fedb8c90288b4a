//! A member at work: its own tasks and its listener.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::connection::Connection;
use crate::member::{self, Member};

/// The most connections at once. Further ones are closed as soon as they come.
const MOST_CONNECTIONS: usize = 2_000;

/// How long to wait where no connection can be taken: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(10);

/// A member of the set, in this process. A clone is the same member.
#[derive(Clone)]
pub struct Node(Arc<Member>);

impl Node {
    /// A member without data. It does nothing before it is served.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Member::new(config)))
    }

    /// Whether it has joined its set: it has the set's data, and has heard of a primary before.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.0.with(|state| {
            let consensus = &state.consensus;
            consensus.standing.has_data() && consensus.term > 0
        })
    }

    /// Runs it with `listener` for as long as it is polled. Dropped, it is gone at once with all its connections,
    /// like a process that was killed.
    pub async fn serve(self, listener: TcpListener) {
        let member = self.0;
        let mut tasks = JoinSet::new();
        tasks.spawn(member::run(member.clone()));
        let mut connections = JoinSet::new();
        let mut number = 0;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() < MOST_CONNECTIONS => {
                        number += 1;
                        let connection = Connection::new(member.clone(), number, stream);
                        connections.spawn(async move {
                            if let Err(error) = connection.serve().await {
                                tracing::debug!(%error, %peer, "a connection ended");
                            }
                        });
                    }
                    Ok((stream, peer)) => {
                        tracing::warn!(%peer, "too many connections");
                        drop(stream);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task");
                    }
                }
                Some(ended) = tasks.join_next() => {
                    // A member that only answers would look alive and not be.
                    tracing::error!(?ended, "the member's own tasks ended");
                    return;
                }
            }
        }
    }
}
