//! `wireguard`: a VPN gateway in the cluster, and a tunnel to it on the laptop, both in user space.
//!
//! `method` and `gateway` know of clusters and laptops; everything else is the data plane, which sets no
//! routes and no resolver. The same code runs at both ends, on the laptop with one peer and in the gateway
//! pod with many: a [`Tunnel`] moves packets between a [`Device`] and an [`OuterSocket`], encrypted by
//! boringtun; offload on both sides of it is what makes it fast. It carries neither DSCP nor ECN from one
//! header to the other, and drops what it cannot route without a word to the sender, but counts it.
//!
//! "Paper" in these pages is *WireGuard: Next Generation Kernel Network Tunnel* (Donenfeld, 2020).

pub mod allowed_ips;
mod device;
mod engine;
mod gateway;
pub mod gso;
#[doc(hidden)]
pub mod in_memory;
mod inbox;
mod keys;
mod link;
mod method;
mod outbox;
mod stats;
mod sys;
mod tunnel;
mod udp;
mod worker;

pub(crate) use gateway::GATEWAY;
pub(crate) use method::WireGuard;

pub use device::{Device, DeviceError, Driver};
pub use gso::Offload;
pub use keys::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use link::{LinkError, bring_up};
pub use stats::{PeerDrops, PeerStats, Traffic, Transfers, TunnelDrops, TunnelStats};
pub use tunnel::{PeerConfig, Tunnel, TunnelConfig, TunnelError};
pub use udp::{OuterSocket, SocketError};
