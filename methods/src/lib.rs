//! The ways in: each with its manifests, its part on the laptop and, where it has one, its part in the
//! cluster.

mod account;
mod direct;
mod forward;
mod kubectl;
mod laptop;
mod resolver;
mod route;
mod socks;
pub mod split_dns;
pub mod wireguard;

use inroads_harness::Method;
use inroads_harness::role::Role;

/// All methods, in report order. The control comes first, a variant after what it is a variant of.
#[must_use]
pub fn all() -> Vec<Box<dyn Method>> {
    vec![
        Box::new(direct::Direct),
        Box::new(forward::Forward),
        Box::new(kubectl::PortForward),
        Box::new(kubectl::Proxy),
        Box::new(route::Route),
        Box::new(socks::Socks),
        Box::new(wireguard::WireGuard),
    ]
}

/// What methods run in the cluster, and beside themselves on laptops.
#[must_use]
pub fn roles() -> Vec<Role> {
    vec![
        socks::server::ROLE,
        wireguard::GATEWAY,
        kubectl::LEASH,
        laptop::ROLE,
    ]
}
