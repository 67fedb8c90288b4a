//! ICMP echo (RFC 792, RFC 4443 §4): what `ping` does, with as few rights as the system asks for.
//!
//! The unprivileged socket is tried first (`net.ipv4.ping_group_range`, icmp(7)), then a raw one (`CAP_NET_RAW`,
//! raw(7)).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use inroads_harness::clock;
use socket2::{Domain, Protocol, Socket, Type};

/// A ping could not be sent, or nobody answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PingError {
    /// This process may have neither kind of socket.
    #[error("ICMP needs CAP_NET_RAW, or a group within `net.ipv4.ping_group_range`: {0}")]
    NotPermitted(#[source] io::Error),
    /// Nobody answered in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The system said no, such as for lack of a route.
    #[error("{0}")]
    Failed(#[source] io::Error),
}

/// Sends one echo request to `address` and waits, for `limit` at most, for its reply; returns how long that took.
///
/// # Errors
/// See [`PingError`].
pub(crate) async fn ping(
    address: IpAddr,
    sequence: u16,
    limit: Duration,
) -> Result<Duration, PingError> {
    // The socket has no async form in the runtime, and is needed for a moment only.
    let pinging = tokio::task::spawn_blocking(move || ping_blocking(address, sequence, limit));
    let outcome = pinging.await;
    outcome.map_err(|error| PingError::Failed(io::Error::other(error)))?
}

fn ping_blocking(address: IpAddr, sequence: u16, limit: Duration) -> Result<Duration, PingError> {
    let (socket, raw) = open(address)?;
    socket
        .connect(&SocketAddr::new(address, 0).into())
        .map_err(PingError::Failed)?;
    let now = clock::wall_precise().as_nanosecond().to_be_bytes();
    let request = Request {
        v4: address.is_ipv4(),
        // A raw socket gets the answers of all others too.
        id: raw.then(|| u16::from_be_bytes([now[14], now[15]])),
        sequence,
        payload: [&b"inroads icmp probe "[..], &now].concat(),
    };
    let started = clock::now();
    socket.send(&request.encode()).map_err(PingError::Failed)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    loop {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(PingError::Silent(limit));
        }
        socket
            .set_read_timeout(Some(left))
            .map_err(PingError::Failed)?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let packet: Vec<u8> = received(&buffer, length);
                // A raw IPv4 socket gives the IP header too (raw(7)).
                let message = if raw && request.v4 {
                    without_header(&packet)
                } else {
                    Some(&packet[..])
                };
                if message.is_some_and(|message| request.is_answered_by(message)) {
                    return Ok(started.elapsed());
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(PingError::Failed(error)),
        }
    }
}

/// A socket for echo requests, and whether it is a raw one.
fn open(address: IpAddr) -> Result<(Socket, bool), PingError> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    if let Ok(socket) = Socket::new(domain, Type::DGRAM, Some(protocol)) {
        return Ok((socket, false));
    }
    match Socket::new(domain, Type::RAW, Some(protocol)) {
        Ok(socket) => Ok((socket, true)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(PingError::NotPermitted(error))
        }
        Err(error) => Err(PingError::Failed(error)),
    }
}

#[expect(
    unsafe_code,
    reason = "socket2 receives into memory that is not initialised"
)]
fn received(buffer: &[MaybeUninit<u8>], length: usize) -> Vec<u8> {
    let filled = buffer.get(..length).unwrap_or_default();
    // SAFETY: the kernel has written the first `length` bytes.
    filled
        .iter()
        .map(|byte| unsafe { byte.assume_init() })
        .collect()
}

/// An echo request.
struct Request {
    v4: bool,
    /// None where the kernel puts its own in.
    id: Option<u16>,
    sequence: u16,
    payload: Vec<u8>,
}

/// The length of an ICMP header (RFC 792), in bytes.
const HEADER: usize = 8;

impl Request {
    /// The message, with its checksum: for ICMPv6, and for sockets without rights, the kernel makes it.
    fn encode(&self) -> Vec<u8> {
        let kind = if self.v4 { 8 } else { 128 };
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.id.unwrap_or_default().to_be_bytes());
        message.extend(self.sequence.to_be_bytes());
        message.extend(&self.payload);
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        message
    }

    /// Whether `message`, an ICMP message from its header on, is the reply.
    fn is_answered_by(&self, message: &[u8]) -> bool {
        let kind = if self.v4 { 0 } else { 129 };
        let Some((header, payload)) = message.split_at_checked(HEADER) else {
            return false;
        };
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        header[0] == kind
            && header[1] == 0
            && self.id.is_none_or(|id| number(4) == id)
            && number(6) == self.sequence
            && *payload == *self.payload
    }
}

/// What follows the IPv4 header (RFC 791 §3.1), whose length stands in it in words of four bytes.
fn without_header(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? & 0xf);
    packet.get(4 * words..)
}

/// RFC 1071: the complement of the sum in ones' complement.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(id: Option<u16>) -> Request {
        Request {
            v4: true,
            id,
            sequence: 3,
            payload: b"hello".to_vec(),
        }
    }

    fn reply(request: &Request) -> Vec<u8> {
        let mut message = request.encode();
        message[0] = 0;
        message
    }

    #[test]
    fn a_reply_is_told_from_the_request_and_from_replies_to_others() {
        let ours = request(Some(7));
        assert!(ours.is_answered_by(&reply(&ours)));
        assert!(
            !ours.is_answered_by(&ours.encode()),
            "a request is no reply"
        );
        assert!(!ours.is_answered_by(&reply(&request(Some(8)))));
        let other = Request {
            sequence: 4,
            ..request(Some(7))
        };
        assert!(!ours.is_answered_by(&reply(&other)));
        let mut unreachable = reply(&ours);
        unreachable[0] = 3;
        assert!(!ours.is_answered_by(&unreachable));
    }

    #[test]
    fn a_message_with_its_checksum_sums_up_to_nothing() {
        for id in [0, 1, 0xffff] {
            assert_eq!(checksum(&request(Some(id)).encode()), 0);
        }
        assert_eq!(
            checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2,
            "RFC 1071 §3"
        );
    }

    #[tokio::test]
    async fn loopback_answers_where_pings_are_permitted() {
        match ping([127, 0, 0, 1].into(), 1, Duration::from_secs(2)).await {
            Ok(took) => assert!(took < Duration::from_secs(2)),
            // A machine may forbid it to all but root, and says so.
            Err(error) => assert!(matches!(error, PingError::NotPermitted(_)), "{error}"),
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet in prop::collection::vec(any::<u8>(), 0..100)) {
            let ours = request(None);
            let answered = without_header(&packet).is_some_and(|it| ours.is_answered_by(it));
            prop_assert!(!answered || packet.len() >= HEADER + ours.payload.len());
        }
    }
}
