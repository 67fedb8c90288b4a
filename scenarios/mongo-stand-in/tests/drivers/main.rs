//! Three members on loopback, and clients that were written by others: the official driver for Rust and the one for
//! Python. What neither does is done by hand over the wire.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is test code, helpers included"
)]

mod by_hand;
mod python;
mod rust;
mod set;
