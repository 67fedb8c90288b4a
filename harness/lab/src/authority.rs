//! What an authoritative DNS server knows and says: a zone, the questions to it, and its answers as messages.
//!
//! Names and records come from elsewhere: [`crate::cluster_dns`] makes a zone of a cluster's objects,
//! [`crate::office`] one of its own. Sockets are `inroads_harness::dns`'s.

mod answer;
mod request;
mod zone;

pub(crate) use answer::Answer;
#[cfg(any(test, fuzzing))]
pub(crate) use request::Rejection;
pub(crate) use request::Request;
pub(crate) use zone::Zone;
