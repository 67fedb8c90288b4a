//! Whether pings reach a pod, and whether it is really the pod that answers.
//!
//! A client of ICMP knows no proxy and no listener: it can be asked as it is only.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::future::join_all;
use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;

use super::endpoints;
use crate::ping::{PingError, ping};

/// Requests to each address: the first may be lost while the way is being found (ARP, handshakes).
const TRIES: u16 = 3;

/// Longest wait for each reply.
const WAIT: Duration = Duration::from_millis(700);

/// Where in its node's range an address is that no pod has: ranges are filled from the other end.
const UNUSED: [u8; 3] = [251, 252, 253];

/// A live pod on each node answers.
pub(super) async fn live(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = "every pod answers a ping";
    if let Some(why) = inexpressible(dialer) {
        return Attempt::fail(expected, why);
    }
    match all_answer(workload).await {
        Ok(seen) => Attempt::pass(expected, seen),
        Err(Outcome::Not(seen)) => Attempt::fail(expected, seen),
        Err(Outcome::NotPermitted(reason)) => Attempt::not_tried(expected, reason),
    }
}

/// An address that no pod has does not answer, though those of pods do: nobody answers in their place.
pub(super) async fn honest(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = "pods answer a ping, and addresses that no pod has do not";
    if let Some(why) = inexpressible(dialer) {
        return Attempt::fail(expected, why);
    }
    let live = match all_answer(workload).await {
        Ok(seen) => seen,
        Err(Outcome::Not(seen)) => return Attempt::fail(expected, seen),
        Err(Outcome::NotPermitted(reason)) => return Attempt::not_tried(expected, reason),
    };
    let unused = unused(workload);
    if unused.is_empty() {
        return Attempt::not_tried(expected, "no address is known here that no pod has");
    }
    let asked = unused.iter().map(async |address| {
        // Once: the way has just been found.
        (address, ping(*address, 1, WAIT).await)
    });
    let mut quiet = Vec::new();
    for (address, outcome) in join_all(asked).await {
        // One that answers may be a pod of somebody else's. All of them cannot.
        if let Err(error) = outcome {
            quiet.push(format!("{address}: {error}"));
        }
    }
    if quiet.is_empty() {
        let all: Vec<String> = unused.iter().map(ToString::to_string).collect();
        return Attempt::fail(expected, format!("all of {} answer too", all.join(", ")));
    }
    Attempt::pass(expected, format!("{live}; {}", quiet.join(", ")))
}

enum Outcome {
    /// A pod does not answer.
    Not(String),
    /// Pings cannot be sent from here.
    NotPermitted(String),
}

async fn all_answer(workload: &Workload) -> Result<String, Outcome> {
    let pods = endpoints(workload);
    if pods.is_empty() {
        return Err(Outcome::Not("the workload has no pods".to_owned()));
    }
    let mut seen = Vec::new();
    for (name, pod) in pods {
        match first_answer(pod.ip).await {
            Ok(took) => seen.push(format!(
                "{name} on {} after {} µs",
                pod.node,
                took.as_micros()
            )),
            Err(error @ PingError::NotPermitted(_)) => {
                return Err(Outcome::NotPermitted(error.to_string()));
            }
            Err(error) => {
                let text = format!("{name} at {}: {error} ({TRIES} tries)", pod.ip);
                return Err(Outcome::Not(text));
            }
        }
    }
    Ok(seen.join(", "))
}

/// The first of a few requests that is answered, or why the last was not.
async fn first_answer(address: IpAddr) -> Result<Duration, PingError> {
    let mut last = PingError::Silent(WAIT);
    for sequence in 1..=TRIES {
        match ping(address, sequence, WAIT).await {
            Ok(took) => return Ok(took),
            Err(error @ PingError::NotPermitted(_)) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Why a ping cannot be sent through this access.
fn inexpressible(dialer: &Dialer) -> Option<&'static str> {
    match dialer.access() {
        Access::Unmodified => None,
        Access::Socks5 { .. } => Some("SOCKS5 has no request for ICMP (RFC 1928 §4)"),
        Access::Rewritten(_) => Some("a listener is a TCP port, and ICMP has no ports"),
        Access::UrlPrefix { .. } => Some("a path carries HTTP requests, and nothing else"),
    }
}

/// Addresses next to a pod's that none of the run's pods has.
fn unused(workload: &Workload) -> Vec<IpAddr> {
    let taken: Vec<IpAddr> = workload.pods.values().map(|pod| pod.ip).collect();
    let Some((_, pod)) = endpoints(workload).into_iter().next() else {
        return Vec::new();
    };
    let IpAddr::V4(ip) = pod.ip else {
        return Vec::new();
    };
    let [a, b, c, _] = ip.octets();
    let all = UNUSED.map(|host| IpAddr::from(Ipv4Addr::new(a, b, c, host)));
    let free = all.into_iter().filter(|address| !taken.contains(address));
    free.collect()
}

#[cfg(test)]
mod tests {
    use inroads_harness::scenario::{PodFacts, ServiceFacts};

    use super::super::super::SERVICE;
    use super::*;

    #[test]
    fn unused_addresses_are_on_the_pods_node_and_nobodys() {
        let pod = |ip: [u8; 4]| PodFacts {
            ip: ip.into(),
            node: "a".to_owned(),
        };
        let mut workload = Workload::default();
        workload.pods.insert("web".to_owned(), pod([10, 244, 1, 2]));
        workload.pods.insert("b".to_owned(), pod([10, 244, 1, 252]));
        let service = ServiceFacts {
            cluster_ip: None,
            ports: Default::default(),
            endpoints: vec!["web".to_owned()],
            external_name: None,
        };
        workload.services.insert(SERVICE.to_owned(), service);
        let found: Vec<String> = unused(&workload).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.244.1.251", "10.244.1.253"]);
    }
}
