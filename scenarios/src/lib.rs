//! The scenarios: workloads in the cluster, the questions asked about them, and the loads put on them.

mod claims;
mod dns;
mod echo;
mod http;
mod mongo;
mod ping;
mod redis_cluster;
mod way_in;

pub use claims::claims;
use inroads_harness::Scenario;
use inroads_harness::expected::Expectations;
use inroads_harness::role::Role;

/// All scenarios, in report order.
#[must_use]
pub fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(http::Http),
        Box::new(redis_cluster::RedisCluster),
        Box::new(mongo::MongoReplicaSet),
        Box::new(dns::Dns),
        Box::new(way_in::WayIn),
    ]
}

/// What is expected of each probe.
///
/// # Panics
/// Where the built-in file cannot be read, which a test rules out.
#[must_use]
pub fn expected() -> Expectations {
    Expectations::read(include_str!("../expected.toml")).expect("the built-in file is well formed")
}

/// What pods of the workloads run.
#[must_use]
pub fn roles() -> Vec<Role> {
    vec![
        http::server::ROLE,
        http::generator::ROLE,
        http::tls::ROLE,
        echo::ROLE,
        redis_cluster::form::ROLE,
        redis_cluster::generator::ROLE,
        mongo::member::ROLE,
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use inroads_harness::ids::MethodId;
    use inroads_harness::run::Level;

    use super::*;

    #[test]
    fn something_is_expected_of_every_required_probe_through_every_method() {
        let expected = expected();
        let all = all();
        let probes = || all.iter().flat_map(|scenario| scenario.probes());
        for probe in probes().filter(|probe| probe.level == Level::Must) {
            for method in ["direct", "forward", "route", "socks", "wireguard"] {
                let outcome = expected.of(probe.id, &MethodId::of(method));
                assert!(outcome.is_some(), "{} through {method}", probe.id);
            }
        }
        let known: BTreeSet<&str> = probes().map(|probe| probe.id).collect();
        for probe in expected.probes() {
            assert!(known.contains(probe), "there is no probe {probe}");
        }
    }
}
