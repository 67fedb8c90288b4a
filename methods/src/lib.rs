//! The ways into a cluster.

pub mod wireguard;
