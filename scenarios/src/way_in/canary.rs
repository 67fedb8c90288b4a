//! A marker is sent through, and looked for in all that leaves and enters the laptop on the office LAN.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use inroads_harness::dial::Dialer;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use inroads_harness::snapshot::lan_address;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use super::{STEADY, address};
use crate::http;

/// The largest frame: the kernel shows what it has not yet cut into packets.
const LARGEST: usize = 1 << 17;

/// How often the capture looks whether it is over.
const PAUSE: Duration = Duration::from_millis(50);

/// How long frames may take from the wire to the capture.
const SETTLE: Duration = Duration::from_millis(150);

/// The port that throws all away (RFC 863).
const DISCARD: u16 = 9;

/// Sends a marker through and has it sent back, with the LAN watched. Another one, sent in the open beforehand, shows
/// that the watch sees what there is.
pub(super) async fn on_the_wire(dialer: &Dialer, workload: &Workload) -> Attempt {
    const EXPECTED: &str =
        "a marker that is sent through, there and back, is nowhere on the office LAN";
    let (host, port) = match address(workload, STEADY) {
        Ok(address) => address,
        Err(error) => return Attempt::fail(EXPECTED, error),
    };
    let (open, hidden) = (marker("open"), marker("hidden"));
    let capture = match Capture::begin(vec![open.clone(), hidden.clone()]) {
        Ok(capture) => capture,
        Err(error) => {
            let text = format!("the LAN cannot be watched, which needs CAP_NET_RAW: {error}");
            return Attempt::not_tried(EXPECTED, text);
        }
    };
    let shown = in_the_open(&open);
    let back = http::given_back(dialer, &host, port, hidden.as_bytes()).await;
    tokio::time::sleep(SETTLE).await;
    let ended = tokio::task::spawn_blocking(move || capture.end()).await;
    let caught = match ended.map_err(io::Error::other).and_then(|caught| caught) {
        Ok(caught) => caught,
        Err(error) => return Attempt::not_tried(EXPECTED, format!("watching the LAN: {error}")),
    };
    match back {
        Ok(body) if body == hidden => {}
        Ok(body) => return Attempt::fail(EXPECTED, format!("{body:?} came back")),
        Err(error) => return Attempt::fail(EXPECTED, format!("it was not sent: {error}")),
    }
    let [in_the_open, through] = caught.found[..] else {
        return Attempt::not_tried(EXPECTED, "the watch lost count");
    };
    if in_the_open == 0 {
        let said = shown.map_or_else(|error| error.to_string(), |()| "it was sent".to_owned());
        return Attempt::not_tried(
            EXPECTED,
            format!("the watch did not see a marker in the open ({said})"),
        );
    }
    let text = format!(
        "of {} frames on the LAN {through} hold the marker that went through, {in_the_open} the one in the open",
        caught.frames
    );
    if through == 0 {
        Attempt::pass(EXPECTED, text)
    } else {
        Attempt::fail(EXPECTED, text)
    }
}

/// A text that nothing else sends.
fn marker(what: &str) -> String {
    let now = inroads_harness::clock::wall_precise().as_nanosecond();
    format!("inroads-canary-{what}-{now:032x}")
}

/// Sends a marker to everyone on the LAN, who throw it away.
fn in_the_open(marker: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    socket
        .send_to(marker.as_bytes(), (Ipv4Addr::BROADCAST, DISCARD))
        .map(drop)
}

/// What a capture came to.
struct Caught {
    frames: usize,
    /// How many of the frames hold each of the markers.
    found: Vec<usize>,
}

/// All that crosses the link to the LAN, until it is ended (packet(7)). The inner side of a tunnel may look like a LAN's
/// link, and is none.
struct Capture {
    over: Arc<AtomicBool>,
    watching: JoinHandle<io::Result<Caught>>,
}

impl Capture {
    fn begin(markers: Vec<String>) -> io::Result<Self> {
        let link = lan_link().ok_or_else(|| io::Error::other("there is no link to the LAN"))?;
        let all = Protocol::from(i32::from(
            u16::try_from(libc::ETH_P_ALL).unwrap_or(3).to_be(),
        ));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all))?;
        socket.set_read_timeout(Some(PAUSE))?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let watching = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || watch(&socket, link, &markers, &ended))?;
        Ok(Self { over, watching })
    }

    fn end(self) -> io::Result<Caught> {
        self.over.store(true, Ordering::Relaxed);
        let caught = self.watching.join();
        caught.map_err(|_panicked| io::Error::other("the watch panicked"))?
    }
}

/// The index of the link that has this laptop's address on the LAN.
fn lan_link() -> Option<usize> {
    let address = lan_address()?;
    let has_it = |interface: &InterfaceAddress| {
        let own = interface
            .address
            .as_ref()
            .and_then(|it| it.as_sockaddr_in());
        own.is_some_and(|own| IpAddr::V4(own.ip()) == address)
    };
    let name = getifaddrs().ok()?.find(has_it)?.interface_name;
    if_nametoindex(name.as_str()).ok()?.try_into().ok()
}

fn watch(socket: &Socket, lan: usize, markers: &[String], over: &AtomicBool) -> io::Result<Caught> {
    let mut caught = Caught {
        frames: 0,
        found: vec![0; markers.len()],
    };
    let mut buffer = vec![0; LARGEST];
    while !over.load(Ordering::Relaxed) {
        let (length, link) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if link.is_none_or(|link| link.ifindex() != lan) {
            continue;
        }
        caught.frames += 1;
        let frame = &buffer[..length.min(LARGEST)];
        for (marker, found) in markers.iter().zip(&mut caught.found) {
            *found += usize::from(holds(frame, marker.as_bytes()));
        }
    }
    Ok(caught)
}

fn holds(frame: &[u8], marker: &[u8]) -> bool {
    frame.windows(marker.len()).any(|piece| piece == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_wherever_it_is_in_a_frame_and_only_whole() {
        let marker = marker("x");
        let bytes = marker.as_bytes();
        for at in [0, 1, 60] {
            let frame = [&vec![0xff; at][..], bytes, &[0]].concat();
            assert!(holds(&frame, bytes), "{at}");
            assert!(!holds(&frame[..at + bytes.len() - 1], bytes));
        }
        assert!(!holds(b"", bytes));
    }
}
