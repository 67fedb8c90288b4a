//! The ways into a cluster.

pub mod split_dns;
