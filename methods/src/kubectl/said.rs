//! What kubectl says on its standard output, as far as it tells where it listens.

use std::net::SocketAddr;

/// A listener of `kubectl port-forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forwarding {
    /// Where it listens.
    pub(super) local: SocketAddr,
    /// The pod's port. Of a Service, it is the one that its port leads to, and not the one asked for.
    pub(super) pod_port: u16,
}

/// A line such as `Forwarding from 127.0.0.1:40001 -> 8080`; `None` where it is another.
pub(super) fn forwarding(line: &str) -> Option<Forwarding> {
    let (local, pod_port) = line
        .trim()
        .strip_prefix("Forwarding from ")?
        .split_once(" -> ")?;
    Some(Forwarding {
        local: local.parse().ok()?,
        pod_port: pod_port.parse().ok()?,
    })
}

/// A line such as `Starting to serve on 127.0.0.1:8001`; `None` where it is another.
pub(super) fn serving(line: &str) -> Option<SocketAddr> {
    line.trim()
        .strip_prefix("Starting to serve on ")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_listener_is_read_with_the_port_that_it_leads_to() {
        let read = forwarding("Forwarding from 127.0.0.1:40001 -> 8080\n").unwrap();
        assert_eq!(read.local, "127.0.0.1:40001".parse().unwrap());
        assert_eq!(read.pod_port, 8080);
        let read = forwarding("Forwarding from [::1]:40001 -> 53").unwrap();
        assert!(read.local.is_ipv6());
    }

    #[test]
    fn other_lines_are_told_apart() {
        for line in [
            "",
            "Handling connection for 8080",
            "Forwarding from 127.0.0.1:40001",
            "Forwarding from 127.0.0.1 -> 8080",
            "Forwarding from 127.0.0.1:40001 -> http",
            "Forwarding from 127.0.0.1:99999 -> 80",
            "error: unable to forward port because pod is not running",
            "Starting to serve on 127.0.0.1:8001",
        ] {
            assert_eq!(forwarding(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_proxy_says_where_it_serves() {
        let read = serving("Starting to serve on 127.0.0.1:8001\n");
        assert_eq!(read, "127.0.0.1:8001".parse().ok());
        assert_eq!(serving("Starting to serve on /tmp/socket"), None);
        assert_eq!(serving("Forwarding from 127.0.0.1:40001 -> 8080"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_them_panic(line in ".*") {
            let _ = (forwarding(&line), serving(&line));
        }
    }
}
