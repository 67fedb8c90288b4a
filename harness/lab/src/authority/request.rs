//! Questions, as an authority takes them.

use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use inroads_harness::dns::message::{self, Unusable};
use inroads_harness::dns::{Reply, Transport};

/// A question that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    message: Message,
    query: Query,
    transport: Transport,
}

impl Request {
    /// Reads a question and hands it back with the way to its answer; what cannot be answered is refused here.
    pub(crate) fn accept(bytes: &[u8], reply: Reply) -> Option<(Self, Reply)> {
        match Self::parse(bytes, reply.transport()) {
            Ok(request) => Some((request, reply)),
            Err(Rejection::Silence) => None,
            Err(Rejection::Code(code)) => {
                reply.send(&message::refusal(bytes, code));
                None
            }
        }
    }

    /// Reads a question.
    ///
    /// # Errors
    /// What to say where it is none that an authority answers.
    pub(crate) fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Rejection> {
        let found = message::question(bytes);
        if matches!(found, Err(Unusable::Ignore)) {
            return Err(Rejection::Silence);
        }
        // Other operations have other sections (RFC 2136 §2), so this comes before the question is missed.
        if message::opcode(bytes) != 0 {
            return Err(Rejection::Code(ResponseCode::NotImp));
        }
        if found.is_err() {
            return Err(Rejection::Code(ResponseCode::FormErr));
        }
        let Ok(mut message) = Message::from_vec(bytes) else {
            return Err(Rejection::Code(ResponseCode::FormErr));
        };
        let Some(query) = message.queries.pop() else {
            return Err(Rejection::Code(ResponseCode::FormErr));
        };
        // RFC 6891 §6.1.3: there is no version but 0 yet.
        if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Err(Rejection::Code(ResponseCode::BADVERS));
        }
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if transfer || query.query_class() != DNSClass::IN {
            return Err(Rejection::Code(ResponseCode::Refused));
        }
        Ok(Self {
            message,
            query,
            transport,
        })
    }

    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.message.metadata
    }

    pub(crate) fn edns(&self) -> Option<&Edns> {
        self.message.edns.as_ref()
    }

    /// How large an answer may be: over UDP 512 bytes (RFC 1035 §4.2.1), or what the client says it takes
    /// (RFC 6891 §6.2.3), but no more than CoreDNS' `bufsize` gives unless told otherwise.
    pub(crate) fn room(&self) -> u16 {
        match (self.transport, self.edns()) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP,
            (Transport::Udp, Some(edns)) => {
                edns.max_payload().clamp(PLAIN_UDP, message::UDP_PAYLOAD)
            }
        }
    }
}

/// What is said to what is no answerable question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Nothing.
    Silence,
    /// A code.
    Code(ResponseCode),
}

const PLAIN_UDP: u16 = 512;

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Name;

    use super::*;

    fn query(kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii("web.test.").unwrap(), kind));
        message
    }

    fn edns(payload: u16) -> Edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    }

    fn parse(message: &Message) -> Result<Request, Rejection> {
        Request::parse(&message.to_vec().unwrap(), Transport::Udp)
    }

    fn code(message: &Message) -> ResponseCode {
        match parse(message).unwrap_err() {
            Rejection::Code(code) => code,
            Rejection::Silence => panic!("it must not be silent"),
        }
    }

    #[test]
    fn what_is_no_question_is_refused_with_the_fitting_code() {
        let mut update = query(RecordType::SOA);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(code(&update), ResponseCode::NotImp);
        assert_eq!(code(&query(RecordType::AXFR)), ResponseCode::Refused);
        assert_eq!(code(&query(RecordType::IXFR)), ResponseCode::Refused);
        let mut chaos = query(RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(code(&chaos), ResponseCode::Refused);
        let mut future = query(RecordType::A);
        let mut version_1 = edns(1232);
        version_1.set_version(1);
        future.set_edns(version_1);
        assert_eq!(code(&future), ResponseCode::BADVERS);
        let mut none = query(RecordType::A);
        none.queries.clear();
        assert_eq!(code(&none), ResponseCode::FormErr);
        let mut response = query(RecordType::A);
        response.metadata.message_type = MessageType::Response;
        assert_eq!(parse(&response).unwrap_err(), Rejection::Silence);
    }

    #[test]
    fn the_room_is_what_both_sides_can_take() {
        let room = |payload: Option<u16>| {
            let mut message = query(RecordType::A);
            if let Some(payload) = payload {
                message.set_edns(edns(payload));
            }
            parse(&message).unwrap().room()
        };
        assert_eq!(room(None), 512);
        assert_eq!(room(Some(800)), 800);
        assert_eq!(room(Some(4096)), 1232);
        let bytes = query(RecordType::A).to_vec().unwrap();
        assert_eq!(
            Request::parse(&bytes, Transport::Tcp).unwrap().room(),
            u16::MAX
        );
    }
}
