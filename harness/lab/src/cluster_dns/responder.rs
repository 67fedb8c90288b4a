//! From a question to its answer: the cluster's own names from its records, everything else by asking
//! upstream.

use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use inroads_harness::dns::{AskError, Reply, Responder, Upstream, message};

use super::records::Records;
use crate::authority::{Answer, Request};

/// A cluster's DNS, answering with the records it was last given.
pub(crate) struct ClusterDns {
    domain: Name,
    upstream: Option<Upstream>,
    records: RwLock<Option<Arc<Records>>>,
}

impl ClusterDns {
    /// It has no records yet: names of the cluster fail until it does. Without an upstream, what is not the
    /// cluster's is refused.
    pub(crate) fn new(domain: Name, upstream: Option<Upstream>) -> Self {
        Self {
            domain,
            upstream,
            records: RwLock::default(),
        }
    }

    /// Answers with these records from now on.
    pub(crate) fn replace(&self, records: Records) {
        let mut current = self.records.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(records));
    }

    /// The records in use, once there are any.
    pub(crate) fn records(&self) -> Option<Arc<Records>> {
        let current = self.records.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// The answer to a question about the cluster, or nothing where it is about something else.
    fn own_answer(&self, query: &Query) -> Option<Answer> {
        let records = self.records();
        if self.domain.zone_of(query.name()) {
            return Some(match records {
                Some(records) => records.names.answer(query.name(), query.query_type()),
                None => Answer::failure(),
            });
        }
        if query.query_type() == RecordType::PTR {
            let answer = records?.addresses.answer(query.name(), RecordType::PTR);
            return (!answer.answers.is_empty()).then_some(answer);
        }
        None
    }
}

impl Responder for ClusterDns {
    fn respond(&self, bytes: &[u8], reply: Reply) {
        let Some((request, reply)) = Request::accept(bytes, reply) else {
            return;
        };
        match (self.own_answer(request.query()), &self.upstream) {
            (Some(answer), Some(upstream)) if answer.leads_to.is_some() => {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    let answer = follow(&upstream, answer, &request).await;
                    reply.send(&answer.encode(&request));
                });
            }
            (Some(answer), _) => reply.send(&answer.encode(&request)),
            (None, Some(upstream)) => upstream.relay(bytes, reply),
            (None, None) => reply.send(&message::refusal(bytes, ResponseCode::Refused)),
        }
    }
}

/// Follows an alias that leads out of the cluster (§2.5): clients take this server for one that resolves.
async fn follow(upstream: &Upstream, mut answer: Answer, request: &Request) -> Answer {
    let Some(target) = answer.leads_to.take() else {
        return answer;
    };
    let resolved = match resolve(upstream, target, request.query().query_type()).await {
        Ok(resolved) => resolved,
        Err(error) => {
            tracing::debug!(%error, query = %request.query(), "an alias could not be followed");
            return Answer::failure();
        }
    };
    match resolved.metadata.response_code {
        code @ (ResponseCode::NoError | ResponseCode::NXDomain) => {
            answer.code = code;
            answer.answers.extend(resolved.answers);
            answer.authorities.extend(resolved.authorities);
            answer
        }
        _ => Answer::failure(),
    }
}

async fn resolve(
    upstream: &Upstream,
    name: Name,
    kind: RecordType,
) -> Result<Message, ResolveError> {
    let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, kind));
    let response = upstream.ask(&query.to_vec()?).await?;
    Ok(Message::from_vec(&response)?)
}

/// An alias could not be followed.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("a message cannot be written")]
    Write(#[from] hickory_proto::ProtoError),
    #[error("a message cannot be read")]
    Read(#[from] hickory_proto::serialize::binary::DecodeError),
}
