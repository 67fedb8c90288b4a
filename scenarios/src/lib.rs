//! The scenarios: workloads in the cluster, the questions asked about them, and the loads put on them.

mod dns;
mod echo;
mod http;
mod ping;

use inroads_harness::Scenario;
use inroads_harness::role::Role;

/// All scenarios, in report order.
#[must_use]
pub fn all() -> Vec<Box<dyn Scenario>> {
    vec![Box::new(http::Http), Box::new(dns::Dns)]
}

/// What pods of the workloads run.
#[must_use]
pub fn roles() -> Vec<Role> {
    vec![
        http::server::ROLE,
        http::generator::ROLE,
        http::tls::ROLE,
        echo::ROLE,
    ]
}
