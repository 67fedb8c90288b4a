//! An answer that no datagram of the ordinary size holds.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;

use super::super::question::{Asker, question_taking, server};
use super::super::{CROWD, CROWD_SIZE, libc};
use super::{address, read};

/// What a datagram holds for a client that says nothing (RFC 1035 §4.2.1), in bytes.
const PLAIN: u16 = 512;

/// What fits every path without fragments (DNS flag day 2020), in bytes.
const UNFRAGMENTED: u16 = 1232;

/// What old resolvers say that they take, in bytes. A server may give less.
const GENEROUS: u16 = 4096;

/// Datagrams are cut and say so (RFC 2181 §9), none is larger than the client takes, and all is to be had over
/// TCP (RFC 7766 §5).
pub(super) async fn large_answer(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let name = format!("{}.", workload.fqdn(CROWD));
    let wanted: BTreeSet<IpAddr> = (1..=CROWD_SIZE)
        .map(|host| Ipv4Addr::new(192, 0, 2, host).into())
        .collect();
    let expected = format!(
        "{} addresses over TCP, and datagrams that say that they are cut",
        wanted.len()
    );
    let server = server(dialer, workload)?;
    let mut seen = Vec::new();

    let mut asker = Asker::over_tcp(dialer, server).await?;
    let (whole, length) = ask(&mut asker, &name, None).await?;
    seen.push(format!("TCP: {} in {length} bytes", count(&whole)));
    let cut = whole.metadata.truncation;
    if found(&whole) != wanted || cut || length <= usize::from(UNFRAGMENTED) {
        return Ok(Attempt::fail(expected, seen.join(", ")));
    }

    let mut asker = Asker::over_udp(dialer, server).await?;
    for taken in [None, Some(UNFRAGMENTED), Some(GENEROUS)] {
        let what = taken.map_or("plain".to_owned(), |taken| format!("EDNS {taken}"));
        let asked = ask(&mut asker, &name, taken).await;
        let (answer, length) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                seen.push(format!("UDP {what}: {error}"));
                return Ok(Attempt::fail(expected, seen.join(", ")));
            }
        };
        let cut = answer.metadata.truncation;
        let says = if cut { "cut" } else { "whole" };
        seen.push(format!(
            "UDP {what}: {} in {length} bytes, {says}",
            count(&answer)
        ));
        let fits = length <= usize::from(taken.unwrap_or(PLAIN));
        if !fits || (!cut && found(&answer) != wanted) {
            return Ok(Attempt::fail(expected, seen.join(", ")));
        }
    }

    if matches!(dialer.access(), Access::Unmodified) {
        let by_libc = libc::addresses(&name).await?;
        seen.push(format!("libc: {} addresses", by_libc.len()));
        if by_libc != wanted {
            return Ok(Attempt::fail(expected, seen.join(", ")));
        }
    }
    Ok(Attempt::pass(expected, seen.join(", ")))
}

/// The answer, and its length in bytes.
async fn ask(
    asker: &mut Asker,
    name: &str,
    taken: Option<u16>,
) -> Result<(Message, usize), OpError> {
    let bytes = asker
        .ask(&mut question_taking(name, RecordType::A, taken)?)
        .await?;
    Ok((read(bytes)?, bytes.len()))
}

fn found(answer: &Message) -> BTreeSet<IpAddr> {
    let records = answer.answers.iter();
    records.filter_map(|record| address(&record.data)).collect()
}

fn count(answer: &Message) -> String {
    let code = answer.metadata.response_code;
    format!("{code}, {} addresses", found(answer).len())
}
