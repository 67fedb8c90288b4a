//! Whether datagrams come through, of every size, and none by mistake.

use std::fmt;
use std::time::Duration;

use inroads_harness::clock;
use inroads_harness::dial::{Dialer, MAX_DATAGRAM};
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use tokio::time::timeout;

use super::super::stream::pieces;
use super::super::{CLOSED_PORT, ECHO_PORT};
use super::{endpoints, service_address};

/// Sizes of datagrams, in bytes of payload.
const DATAGRAMS: [u64; 4] = [512, 1232, 1472, 8192];

/// How often a datagram is sent until one comes back.
const TRIES: usize = 3;

/// Longest wait for each.
const DATAGRAM_WAIT: Duration = Duration::from_millis(500);

/// A datagram goes to the Service's echo server and comes back the same; one to a port where nobody listens
/// does not.
pub(super) async fn udp_echo(dialer: &Dialer, workload: &Workload) -> Attempt {
    let (host, port) = match service_address(workload, "echo-udp") {
        Ok(address) => address,
        Err(error) => return Attempt::fail("the workload", error),
    };
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let expected =
        format!("a datagram to {host}:{port} comes back the same, and none from a closed port");
    let payload = format!("inroads udp probe {}", clock::wall_precise()).into_bytes();
    let came = match echoed(dialer, &host, port, &payload).await {
        Back::Same(came) => came,
        other => return Attempt::fail(expected, other.to_string()),
    };
    match echoed(dialer, &pod.ip.to_string(), CLOSED_PORT, &payload).await {
        Back::Nothing(why) => Attempt::pass(expected, format!("{came}; a closed port: {why}")),
        other => Attempt::fail(
            expected,
            format!("a closed port gave {other}: a false success"),
        ),
    }
}

/// Datagrams of every usual size come back: of a plain DNS answer, of one that needs no fragments, of a full
/// Ethernet frame, and of what needs fragments everywhere.
pub(super) async fn udp_sizes(dialer: &Dialer, workload: &Workload) -> Attempt {
    let texts = DATAGRAMS.map(|size| size.to_string());
    let expected = format!("datagrams of {} bytes come back", texts.join(", "));
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let host = pod.ip.to_string();
    let mut seen = Vec::new();
    for size in DATAGRAMS {
        let payload: Vec<u8> = pieces(size).flatten().collect();
        match echoed(dialer, &host, ECHO_PORT, &payload).await {
            Back::Same(came) => seen.push(came),
            other => {
                seen.push(format!("{size} bytes: {other}"));
                return Attempt::fail(expected, seen.join(", "));
            }
        }
    }
    Attempt::pass(expected, seen.join(", "))
}

/// What came back of a datagram.
enum Back {
    /// The same; at which try.
    Same(String),
    /// Something else, of so many bytes.
    Other(usize),
    /// Nothing, and why.
    Nothing(String),
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(text) | Self::Nothing(text) => f.write_str(text),
            Self::Other(length) => write!(f, "{length} other bytes"),
        }
    }
}

/// Sends a datagram to `host:port` until something comes back.
async fn echoed(dialer: &Dialer, host: &str, port: u16, payload: &[u8]) -> Back {
    let mut path = match dialer.udp(host, port).await {
        Ok(path) => path,
        Err(error) => return Back::Nothing(error.to_string()),
    };
    let mut last = "no answer".to_owned();
    let mut answer = vec![0; MAX_DATAGRAM];
    for attempt in 1..=TRIES {
        if let Err(error) = path.send(payload).await {
            last = error.to_string();
            continue;
        }
        match timeout(DATAGRAM_WAIT, path.receive(&mut answer)).await {
            Ok(Ok(length)) if answer[..length] == *payload => {
                return Back::Same(format!("the same {length} bytes, at try {attempt}"));
            }
            Ok(Ok(length)) => return Back::Other(length),
            Ok(Err(error)) => last = error.to_string(),
            Err(_elapsed) => "no answer".clone_into(&mut last),
        }
    }
    Back::Nothing(format!("{last} ({TRIES} tries)"))
}
