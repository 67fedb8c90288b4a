//! DNS over sockets: listening for questions, asking servers, and the resolver's configuration file.
//!
//! A message is bytes here and stays as it came; only its header and its question are looked at. What is
//! *answered* is decided elsewhere: by a [`Responder`], which may be an authority or pass the question on
//! to an [`Upstream`].

mod framing;
pub mod message;
mod resolv_conf;
mod serve;
mod upstream;

pub use resolv_conf::ResolvConf;
pub use serve::{ListenError, Reply, Responder, Server, Sockets, Transport};
pub use upstream::{AskError, Patience, Upstream};

/// The port of DNS (RFC 1035 §4.2).
pub const PORT: u16 = 53;
