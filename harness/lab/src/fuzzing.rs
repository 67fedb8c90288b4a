//! What holds for any bytes that strangers send, where only this crate may call what reads them. The property
//! tests below ask it of a few hundred of them, the targets in `fuzz/` of as many as there is time for.

use std::iter;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use bytes::BytesMut;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData};
use inroads_harness::dns::{Transport, message};

use crate::apiserver::schema;
use crate::authority::{Rejection, Request, Zone};
use crate::node::spdy::{Decoder, Frame, SpdyError};

/// A question to an authority is refused, or answered with a message that fits.
pub fn dns_request(bytes: &[u8]) {
    ask(bytes);
    // Names that are known are seldom met by chance: with one in front the rest is reached.
    if let Some((header, rest)) = bytes.split_at_checked(message::HEADER) {
        for name in [&b"\x04many\x04test\0"[..], b"\x05alias\x04test\0"] {
            ask(&[header, name, rest].concat());
        }
    }
}

fn ask(bytes: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let reply = match Request::parse(bytes, transport) {
            Ok(request) => {
                let query = request.query();
                let answer = ZONE.answer(query.name(), query.query_type());
                let reply = answer.encode(&request);
                assert!(reply.len() <= request.room().into(), "it fits");
                assert!(message::answers(bytes, &reply), "it answers the question");
                reply
            }
            Err(Rejection::Code(code)) => message::refusal(bytes, code),
            Err(Rejection::Silence) => continue,
        };
        assert_eq!(message::id(&reply), message::id(bytes));
        Message::from_vec(&reply).expect("clients can read it");
    }
}

/// A zone whose answers do not all fit into a datagram.
static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let name = |text| Name::from_ascii(text).expect("it is a name");
    let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 2, 3, 4, 5);
    let mut zone = Zone::new(name("test."), soa);
    let many = (0..=u8::MAX).map(|last| RData::A(A(Ipv4Addr::new(192, 0, 2, last))));
    zone.extend(name("many.test."), 5, many);
    zone.insert(
        name("many.test."),
        5,
        RData::TXT(TXT::new(vec!["x".repeat(255)])),
    );
    zone.insert(
        name("alias.test."),
        5,
        RData::CNAME(CNAME(name("many.test."))),
    );
    zone
});

/// Frames of SPDY are the same however they are cut on their way.
pub fn spdy(bytes: &[u8]) {
    let whole = frames(iter::once(bytes));
    assert_eq!(frames(bytes.chunks(1)), whole, "byte by byte");
}

/// The frames of a client, and what is wrong behind them.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<SpdyError>) {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// An object in protocol buffers is read or refused, whatever its kind.
pub fn protobuf(bytes: &[u8]) {
    drop(schema::decode_protobuf(bytes, |_, _| {
        Some(schema::named("Pod"))
    }));
    let Some((kind, raw)) = bytes.split_first() else {
        return;
    };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let mut body = b"k8s\0\x12".to_vec();
    let mut length = raw.len();
    while length > 0x7f {
        body.push(0x80 | length.to_le_bytes()[0]);
        length >>= 7;
    }
    body.push(length.to_le_bytes()[0]);
    body.extend_from_slice(raw);
    drop(schema::decode_protobuf(&body, |_, _| {
        Some(schema::named(kind))
    }));
}

const KINDS: [&str; 5] = ["Pod", "Service", "Deployment", "EndpointSlice", "ConfigMap"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message with one question.
    fn question() -> impl Strategy<Value = Vec<u8>> {
        let labels = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..6);
        let head = (any::<u16>(), 0_u8..0x80, any::<u8>());
        (
            head,
            labels,
            any::<u16>(),
            prop::collection::vec(any::<u8>(), 0..40),
        )
            .prop_map(|((id, high, low), labels, kind, rest)| {
                let mut bytes = id.to_be_bytes().to_vec();
                bytes.extend([high, low, 0, 1, 0, 0, 0, 0, 0, 0]);
                for label in labels {
                    bytes.push(u8::try_from(label.len()).unwrap());
                    bytes.extend(label);
                }
                bytes.push(0);
                bytes.extend(kind.to_be_bytes());
                bytes.extend([0, 1]);
                bytes.extend(rest);
                bytes
            })
    }

    /// A few frames, of kinds that there are and others.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop::collection::vec(any::<u8>(), 0..40);
        let frame = (0_u8..12, any::<bool>(), any::<u8>(), payload).prop_map(
            |(kind, control, flags, payload)| {
                let length = u8::try_from(payload.len()).unwrap();
                let head = match control {
                    true => [0x80, 3, 0, kind, flags, 0, 0, length],
                    false => [0, 0, 0, kind, flags, 0, 0, length],
                };
                [&head[..], &payload].concat()
            },
        );
        prop::collection::vec(frame, 0..6).prop_map(|frames| frames.concat())
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    proptest! {
        #[test]
        fn any_question_is_refused_or_answered_with_what_fits(bytes in bytes(), question in question()) {
            dns_request(&bytes);
            dns_request(&question);
        }

        #[test]
        fn frames_of_spdy_are_the_same_however_they_are_cut(bytes in bytes(), frames in conversation()) {
            spdy(&bytes);
            spdy(&frames);
        }

        #[test]
        fn any_protocol_buffers_are_read_or_refused(bytes in bytes()) {
            protobuf(&bytes);
        }
    }
}
