//! The parts of a message that a forwarder must know: its header and its question (RFC 1035 §4.1).
//!
//! Records are not read here, with one exception: a refusal answers EDNS with EDNS.

use hickory_proto::op::{Edns, Message, ResponseCode};

/// The length of the header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;

/// The largest message: TCP counts its length in two bytes (RFC 1035 §4.2.2), and no datagram is larger.
pub const MAX: usize = u16::MAX as usize;

/// The largest name, its final zero included (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;

/// What we are ready to receive over UDP, as EDNS puts it (RFC 6891 §6.2.3): what fits every path without
/// fragments (DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

/// The length of an EDNS record without options (RFC 6891 §6.1.2).
pub const EDNS_REPLY: u16 = 11;

const MAX_LABEL: u8 = 63;

const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
const OPCODE: u8 = 0x78;
const RCODE: u8 = 0x0f;

/// Why a message cannot be taken as a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It is too short to be answered, or is a response itself: answering would only feed a loop.
    Ignore,
    /// It is a question, and a broken one: `FORMERR`.
    Malformed,
}

/// The one question of a message, as it stands there (RFC 1035 §4.1.2).
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    bytes: &'a [u8],
}

impl<'a> Question<'a> {
    /// The name: labels with their lengths, and the final zero.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - 4]
    }

    /// The number of the type that is asked for.
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.number_from_end(4)
    }

    /// The number of the class; 1 is the Internet.
    #[must_use]
    pub fn class(&self) -> u16 {
        self.number_from_end(2)
    }

    /// Whether `other` asks the same. Case does not count (RFC 4343): a client that mixed it to tell
    /// forged answers compares it itself.
    #[must_use]
    pub fn is(&self, other: Question<'_>) -> bool {
        // Lengths of labels are below `A`, so folding the whole folds only letters.
        self.name().eq_ignore_ascii_case(other.name())
            && self.kind() == other.kind()
            && self.class() == other.class()
    }

    fn number_from_end(&self, offset: usize) -> u16 {
        let at = self.bytes.len() - offset;
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

/// The question of a query.
///
/// # Errors
/// [`Unusable`] says whether it deserves an answer.
pub fn question(query: &[u8]) -> Result<Question<'_>, Unusable> {
    if query.len() < HEADER || query[2] & RESPONSE != 0 {
        return Err(Unusable::Ignore);
    }
    sole_question(query).ok_or(Unusable::Malformed)
}

/// The id by which a client knows the answer (RFC 1035 §4.1.1). `message` holds at least a header.
#[must_use]
pub fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

/// Gives a message, which holds at least a header, another id.
pub fn set_id(message: &mut [u8], id: u16) {
    message[..2].copy_from_slice(&id.to_be_bytes());
}

/// Whether a response, which holds at least a header, was cut to fit UDP.
#[must_use]
pub fn is_truncated(response: &[u8]) -> bool {
    response[2] & TRUNCATED != 0
}

/// The number of the operation; 0 is a plain query.
#[must_use]
pub fn opcode(message: &[u8]) -> u8 {
    (message[2] & OPCODE) >> 3
}

/// Whether `response` answers `query` (RFC 5452 §9.1), ids apart: those are the caller's.
///
/// A server that could not read the question may leave it out of its error (RFC 1035 §4.1.1); without
/// records, and with nothing a resolver would remember, there is nothing to forge in that.
#[must_use]
pub fn answers(query: &[u8], response: &[u8]) -> bool {
    if response.len() < HEADER || response[2] & RESPONSE == 0 {
        return false;
    }
    match (question(query), sole_question(response)) {
        (Ok(asked), Some(answered)) => asked.is(answered),
        (Ok(_), None) => is_bare_failure(response),
        (Err(_), _) => false,
    }
}

/// The answer to `query` that says `code` and nothing else. Where the query has a question, it is repeated,
/// and where it speaks EDNS, so does the answer (RFC 6891 §7).
#[must_use]
pub fn refusal(query: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut reply = vec![0; HEADER];
    reply[..2].copy_from_slice(&query[..2]);
    reply[2] = RESPONSE | query[2] & (OPCODE | RECURSION_DESIRED);
    reply[3] = RECURSION_AVAILABLE | query[3] & CHECKING_DISABLED | code.low();
    if let Some(question) = sole_question(query) {
        reply[5] = 1;
        reply.extend_from_slice(question.bytes);
        if let Some(edns) = Message::from_vec(query).ok().and_then(|parsed| parsed.edns) {
            add_additional(&mut reply, &edns_reply(&edns, code));
        }
    }
    reply
}

/// The EDNS record that answers `edns` (RFC 6891 §6.1.2): no options, the `DO` bit as it came (RFC 3225 §3).
#[must_use]
pub fn edns_reply(edns: &Edns, code: ResponseCode) -> [u8; EDNS_REPLY as usize] {
    const OPT: u8 = 41;
    let [high, low] = UDP_PAYLOAD.to_be_bytes();
    let flags = u8::from(edns.flags().dnssec_ok) << 7;
    [0, 0, OPT, high, low, code.high(), 0, flags, 0, 0, 0]
}

/// Puts a record behind all others of a message, which holds at least a header.
pub fn add_additional(message: &mut Vec<u8>, record: &[u8]) {
    let count = u16::from_be_bytes([message[10], message[11]]) + 1;
    message[10..HEADER].copy_from_slice(&count.to_be_bytes());
    message.extend_from_slice(record);
}

/// The question of a message that holds exactly one, the first thing behind its header.
fn sole_question(message: &[u8]) -> Option<Question<'_>> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let rest = &message[HEADER.min(message.len())..];
    let end = name_length(rest)? + 4;
    Some(Question {
        bytes: rest.get(..end)?,
    })
}

/// The length of the name that `bytes` begins with. The first name of a message has nothing to point to.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let label = *bytes.get(at)?;
        at += 1 + usize::from(label);
        match label {
            0 => return Some(at),
            1..=MAX_LABEL if at < MAX_NAME => {}
            _ => return None,
        }
    }
}

/// An error without any section: one that says nothing of a name, so neither success nor `NXDOMAIN`.
fn is_bare_failure(response: &[u8]) -> bool {
    let code = u16::from(response[3] & RCODE);
    let named = [ResponseCode::NoError, ResponseCode::NXDomain].map(u16::from);
    response[4..10] == [0; 6] && !named.contains(&code)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str) -> Message {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(
            Name::from_ascii(name).unwrap(),
            RecordType::SRV,
        ));
        query
    }

    fn wire(message: &Message) -> Vec<u8> {
        message.to_vec().unwrap()
    }

    #[test]
    fn a_question_is_read_as_it_stands() {
        let bytes = wire(&query("Web.Default.svc.cluster.local."));
        let question = question(&bytes).unwrap();
        assert_eq!(
            question.name(),
            b"\x03Web\x07Default\x03svc\x07cluster\x05local\0"
        );
        assert_eq!((question.kind(), question.class()), (33, 1));
    }

    #[test]
    fn what_is_no_question_is_told_from_a_broken_one() {
        let good = wire(&query("a.b."));
        assert_eq!(question(&good[..11]).unwrap_err(), Unusable::Ignore);
        let mut response = good.clone();
        response[2] |= RESPONSE;
        assert_eq!(question(&response).unwrap_err(), Unusable::Ignore);
        assert_eq!(
            question(&good[..good.len() - 1]).unwrap_err(),
            Unusable::Malformed
        );
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(question(&two).unwrap_err(), Unusable::Malformed);
        let mut pointer = good;
        pointer[HEADER] = 0xc0;
        assert_eq!(question(&pointer).unwrap_err(), Unusable::Malformed);
    }

    #[test]
    fn an_answer_must_repeat_the_question_but_not_its_case() {
        let asked = wire(&query("web.default."));
        let answer = |name| {
            let mut answer = query(name);
            answer.metadata.message_type = MessageType::Response;
            wire(&answer)
        };
        assert!(answers(&asked, &answer("WEB.default.")));
        assert!(!answers(&asked, &answer("web.defaults.")));
        assert!(!answers(&asked, &asked), "a query answers nothing");
    }

    #[test]
    fn only_a_failure_may_come_without_the_question() {
        let asked = wire(&query("web.default."));
        let bare = |code| wire(&Message::error_msg(7, OpCode::Query, code));
        assert!(answers(&asked, &bare(ResponseCode::FormErr)));
        assert!(!answers(&asked, &bare(ResponseCode::NoError)));
        assert!(!answers(&asked, &bare(ResponseCode::NXDomain)));
    }

    #[test]
    fn a_refusal_repeats_id_question_and_edns() {
        let mut asked = query("Web.default.");
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        asked.set_edns(edns);
        asked.metadata.recursion_desired = true;
        let reply = Message::from_vec(&refusal(&wire(&asked), ResponseCode::ServFail)).unwrap();
        assert_eq!(reply.metadata.id, 7);
        assert_eq!(reply.metadata.message_type, MessageType::Response);
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!(reply.metadata.recursion_desired);
        assert!(reply.queries[0].name().eq_case(asked.queries[0].name()));
        let edns = reply.edns.expect("EDNS is answered with EDNS");
        assert_eq!(edns.max_payload(), UDP_PAYLOAD);
        assert!(edns.flags().dnssec_ok);
        let plain = refusal(&wire(&query("a.")), ResponseCode::ServFail);
        assert!(Message::from_vec(&plain).unwrap().edns.is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let question = question(&bytes);
            if !matches!(question, Err(Unusable::Ignore)) {
                let reply = refusal(&bytes, ResponseCode::FormErr);
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
            let _ = answers(&bytes, &bytes);
        }

        #[test]
        fn it_reads_the_names_that_the_library_reads(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..64), 0..8),
        ) {
            let Ok(name) = Name::from_labels(labels.iter().map(Vec::as_slice)) else {
                return Ok(());
            };
            let mut message = query("a.");
            message.queries = vec![Query::query(name, RecordType::A)];
            let bytes = wire(&message);
            let length = labels.iter().map(|label| label.len() + 1).sum::<usize>() + 1;
            prop_assert_eq!(question(&bytes).unwrap().name().len(), length);
        }
    }
}
