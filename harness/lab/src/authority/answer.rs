//! Answers, and how they become messages that fit.

use std::iter;

use hickory_proto::op::{Metadata, ResponseCode, emit_message_parts};
use hickory_proto::rr::{Name, Record};
use hickory_proto::serialize::binary::BinEncoder;
use inroads_harness::dns::message;

use super::Request;

/// What is said to a question.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    /// The name that the last alias points to, where another server must be asked for it.
    pub(crate) leads_to: Option<Name>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            code: ResponseCode::NoError,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            leads_to: None,
        }
    }
}

impl Answer {
    /// The answer that none can be had now.
    pub(crate) fn failure() -> Self {
        Self {
            code: ResponseCode::ServFail,
            ..Self::default()
        }
    }

    /// The message. What does not fit is left out from the end, and the message says so (`TC`): of any
    /// section, as CoreDNS does, though RFC 2181 §9 would let additional records go without a word.
    pub(crate) fn encode(&self, request: &Request) -> Vec<u8> {
        let mut metadata = Metadata::response_from_request(request.metadata());
        metadata.response_code = self.code;
        metadata.authoritative = self.code != ResponseCode::ServFail;
        let edns = request
            .edns()
            .map(|edns| message::edns_reply(edns, self.code));
        let mut room = request.room();
        if edns.is_some() {
            room -= message::EDNS_REPLY;
        }

        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(room);
        let emitted = emit_message_parts(
            &metadata,
            &mut iter::once(request.query()),
            &mut self.answers.iter(),
            &mut self.authorities.iter(),
            &mut self.additionals.iter(),
            None,
            None,
            &mut encoder,
        );
        if let Err(error) = emitted
            && !self.answers.is_empty()
        {
            // What another server said of an alias may read and yet not write.
            tracing::debug!(%error, query = %request.query(), "an answer could not be encoded");
            return Self::failure().encode(request);
        }
        // A record that did not fit has left its beginning behind.
        encoder.trim();
        if let Some(record) = edns {
            message::add_additional(&mut bytes, &record);
        }
        bytes
    }
}
