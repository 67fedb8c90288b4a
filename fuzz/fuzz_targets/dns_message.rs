//! Any bytes as a DNS message, as a forwarder reads it: its question is the one that the library reads, and a
//! refusal answers it.

#![no_main]

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::serialize::binary::BinEncodable as _;
use inroads_harness::dns::message::{self, Unusable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let question = match message::question(bytes) {
        Ok(question) => question,
        Err(Unusable::Ignore) => return,
        Err(Unusable::Malformed) => {
            let reply = message::refusal(bytes, ResponseCode::FormErr);
            assert!(Message::from_vec(&reply).is_ok());
            return;
        }
    };
    let reply = message::refusal(bytes, ResponseCode::ServFail);
    assert!(message::answers(bytes, &reply));
    let reply = Message::from_vec(&reply).expect("clients can read it");
    assert_eq!(reply.metadata.id, message::id(bytes));
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);

    if let Ok(read) = Message::from_vec(bytes) {
        let [query] = &read.queries[..] else {
            panic!("there is one question: {read}");
        };
        let name = query.name().to_bytes().expect("it was read");
        assert_eq!(question.name(), name);
        assert_eq!(question.kind(), u16::from(query.query_type()));
        assert_eq!(question.class(), u16::from(query.query_class()));
    }
});
