//! A stand-in for a MongoDB replica set: members that speak the wire protocol to official drivers, and do what a
//! set does that matters to who reaches it from afar.
//!
//! What is as in MongoDB: the handshake with `topologyVersion`, awaited and streamed; elections by terms and
//! majorities; stepping down with a handoff; operations copied by secondaries, and writes that wait for a
//! majority; reads from secondaries; retryable writes that are done once; the errors, codes and labels that
//! drivers act on. What is not: data is in memory and bounded, there are no users, no TLS, no compression, no
//! transactions, no indexes but the one on `_id`; and of queries, updates and aggregation only what is plain.
//! Whatever is not understood is refused. Figures measured on it tell of the way to it, and nothing of MongoDB.
//!
//! Sources: the MongoDB wire protocol and the driver specifications (server discovery and monitoring, server
//! selection, retryable writes, sessions), and the paper that [`Config`]'s elections follow.

mod commands;
mod config;
mod connection;
mod cursors;
mod error;
mod filter;
mod framing;
mod link;
mod member;
mod oplog;
mod projection;
mod server;
mod store;
mod update;
mod value;
pub mod wire;

pub use config::{Config, ConfigError, ELECTION, HEARTBEAT};
pub use server::Node;
