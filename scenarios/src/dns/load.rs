//! The loads of the `dns` scenario: the same few questions, again and again, each with a known answer.

use std::rc::Rc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{Load, Op, OpError, Session};
use inroads_harness::scenario::Workload;

use super::question::{Asker, question, server};
use super::{ADDRESSED, HEADLESS, PORT_NAME};

/// The kinds of question, in the order in which they are asked.
pub(super) const KINDS: [&str; 4] = ["service", "headless", "srv", "missing"];

/// A question with the answer that it must get.
#[derive(Debug, Clone)]
struct Known {
    question: Vec<u8>,
    code: ResponseCode,
    answers: usize,
}

/// Lookups of every kind in turn.
pub(super) struct Lookups {
    dialer: Dialer,
    server: std::net::IpAddr,
    known: Rc<[Known]>,
}

impl Lookups {
    /// Questions about `workload`, whose answers follow from what the API says of it.
    pub(super) fn new(dialer: Dialer, workload: &Workload) -> Result<Self, OpError> {
        let members = workload
            .endpoints(HEADLESS)
            .map_err(|error| OpError(error.to_string()))?
            .len();
        let srv = format!("_{PORT_NAME}._tcp.{}", workload.fqdn(HEADLESS));
        let known = |name: String, kind, code, answers| {
            Ok(Known {
                question: question(&format!("{name}."), kind)?,
                code,
                answers,
            })
        };
        let known: Result<Vec<Known>, OpError> = [
            known(
                workload.fqdn(ADDRESSED),
                RecordType::A,
                ResponseCode::NoError,
                1,
            ),
            known(
                workload.fqdn(HEADLESS),
                RecordType::A,
                ResponseCode::NoError,
                members,
            ),
            known(srv, RecordType::SRV, ResponseCode::NoError, members),
            known(
                workload.fqdn("no-such-service"),
                RecordType::A,
                ResponseCode::NXDomain,
                0,
            ),
        ]
        .into_iter()
        .collect();
        Ok(Self {
            server: server(&dialer, workload)?,
            dialer,
            known: known?.into(),
        })
    }
}

pub(super) struct LookupSession {
    asker: Asker,
    known: Vec<Known>,
    next: usize,
}

impl Load for Lookups {
    type Session = LookupSession;

    async fn open(&self) -> Result<LookupSession, OpError> {
        let asker = Asker::open(&self.dialer, self.server).await?;
        let mut session = LookupSession {
            asker,
            known: self.known.to_vec(),
            next: 0,
        };
        // Each answer is read with care once; what follows is told by its header.
        for known in &mut session.known {
            let answer = session.asker.ask(&mut known.question).await?;
            let message = Message::from_vec(answer).map_err(|error| OpError(error.to_string()))?;
            let asked = question_of(&known.question)?;
            if message.queries.first() != asked.queries.first() {
                return Err(OpError(format!(
                    "the answer is to another question: {:?}",
                    message.queries
                )));
            }
        }
        Ok(session)
    }
}

impl Session for LookupSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        let class = self.next;
        self.next = (self.next + 1) % self.known.len();
        let known = &mut self.known[class];
        let answer = self.asker.ask(&mut known.question).await?;
        let (code, answers) = header(answer)?;
        if (code, answers) != (u16::from(known.code), known.answers) {
            return Err(OpError(format!(
                "{}: code {code} with {answers} answers instead of code {} with {}",
                KINDS[class],
                u16::from(known.code),
                known.answers
            )));
        }
        Ok(Op {
            bytes: answer.len() as u64,
            class,
            ..Op::default()
        })
    }
}

fn question_of(bytes: &[u8]) -> Result<Message, OpError> {
    Message::from_vec(bytes).map_err(|error| OpError(error.to_string()))
}

/// The response code and the number of answers of a message's header (RFC 1035 §4.1.1).
fn header(message: &[u8]) -> Result<(u16, usize), OpError> {
    match message {
        [_, _, _, flags, _, _, high, low, ..] => Ok((
            u16::from(flags & 0x0f),
            usize::from(u16::from_be_bytes([*high, *low])),
        )),
        _ => Err(OpError("the answer is too short".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_code_and_answers() {
        assert_eq!(header(&[0, 1, 0x81, 0x83, 0, 1, 1, 2]).unwrap(), (3, 258));
        assert!(header(&[0; 7]).is_err());
    }
}
