//! The server on real sockets, with the records of a fixed cluster; and following a made-up API.

mod api;
mod dig;
mod throughput;

use std::net::{SocketAddr, UdpSocket as StdUdpSocket};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use inroads_harness::clock::Stopwatch;
use inroads_harness::dns::{Reply, Responder, message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::authority::{Request, Zone};
use records::tests::cluster;

const LIMIT: Duration = Duration::from_secs(5);

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn serve(responder: impl Responder) -> (SocketAddr, Server) {
    let sockets = Sockets::bind(LOOPBACK).unwrap();
    let address = sockets.local_addr().unwrap();
    (address, Server::start(sockets, Arc::new(responder)))
}

/// Cluster DNS that asks `upstream`.
fn cluster_dns(upstream: &[SocketAddr]) -> (SocketAddr, Server) {
    let upstream =
        (!upstream.is_empty()).then(|| Upstream::new(upstream, patience(upstream.len())));
    let dns = ClusterDns::new(records::absolute("cluster.local").unwrap(), upstream);
    dns.replace(cluster());
    serve(dns)
}

/// The office's server, as far as an alias leads there.
fn office() -> (SocketAddr, Server) {
    let name = |text| records::absolute(text).unwrap();
    let soa =
        hickory_proto::rr::rdata::SOA::new(name("ns.test"), name("hostmaster.test"), 1, 2, 3, 4, 5);
    let mut zone = Zone::new(name("test"), soa);
    zone.insert(
        name("www.office.test"),
        60,
        RData::A(Ipv4Addr::new(192, 0, 2, 80).into()),
    );
    serve(move |bytes: &[u8], reply: Reply| {
        if let Some((request, reply)) = Request::accept(bytes, reply) {
            let query = request.query();
            reply.send(
                &zone
                    .answer(query.name(), query.query_type())
                    .encode(&request),
            );
        }
    })
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(records::absolute(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// The answer over UDP and its length.
async fn ask_raw(server: SocketAddr, bytes: &[u8]) -> (Message, usize) {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = vec![0; message::MAX];
    let length = timeout(LIMIT, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    (Message::from_vec(&buffer[..length]).unwrap(), length)
}

async fn ask(server: SocketAddr, question: &Message) -> Message {
    let (answer, _) = ask_raw(server, &question.to_vec().unwrap()).await;
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

async fn ask_tcp(server: SocketAddr, question: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = question.to_vec().unwrap();
    stream
        .write_u16(u16::try_from(bytes.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = timeout(LIMIT, stream.read_u16()).await.unwrap().unwrap();
    let mut answer = vec![0; length.into()];
    timeout(LIMIT, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    Message::from_vec(&answer).unwrap()
}

#[tokio::test]
async fn an_answer_is_authoritative_and_spelled_as_asked() {
    let (server, _serving) = cluster_dns(&[]);
    let asked = question("wEb.DeFault.svc.CLUSTER.local", RecordType::A);
    let answer = ask(server, &asked).await;
    assert!(answer.metadata.authoritative);
    assert!(answer.metadata.recursion_desired && !answer.metadata.recursion_available);
    let name = asked.queries[0].name();
    assert!(answer.queries[0].name().eq_case(name));
    assert!(answer.answers[0].name.eq_case(name));
    assert_eq!(answer.answers[0].data.to_string(), "10.96.1.2");
    assert!(
        answer.edns.is_none(),
        "who does not speak EDNS is not spoken to in EDNS"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_cut_and_whole_over_tcp() {
    let (server, _serving) = cluster_dns(&[]);
    let asked = question("crowd.default.svc.cluster.local", RecordType::A);
    for (payload, room) in [
        (None, 512),
        (Some(800), 800),
        (Some(4096), 1232),
        (Some(100), 512),
    ] {
        let asked = match payload {
            Some(payload) => with_edns(asked.clone(), payload),
            None => asked.clone(),
        };
        let (cut, length) = ask_raw(server, &asked.to_vec().unwrap()).await;
        assert!(
            cut.metadata.truncation,
            "{length} of {room}: {} records",
            cut.answers.len()
        );
        assert!(length <= room && length > room - 64, "{length} of {room}");
        assert_eq!(
            cut.edns.is_some(),
            payload.is_some(),
            "EDNS outlives the cut"
        );
    }
    let whole = ask_tcp(server, &asked).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 120);
    let srv = question(
        "_http._tcp.crowd.default.svc.cluster.local",
        RecordType::SRV,
    );
    let whole = ask_tcp(server, &srv).await;
    assert_eq!((whole.answers.len(), whole.additionals.len()), (120, 120));
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_its_code() {
    let (server, _serving) = cluster_dns(&[]);
    let mut notify = question("cluster.local", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(
        ask(server, &notify).await.metadata.response_code,
        ResponseCode::NotImp
    );
    let transfer = question("cluster.local", RecordType::AXFR);
    assert_eq!(
        ask_tcp(server, &transfer).await.metadata.response_code,
        ResponseCode::Refused
    );
    let elsewhere = question("www.office.test", RecordType::A);
    assert_eq!(
        ask(server, &elsewhere).await.metadata.response_code,
        ResponseCode::Refused
    );
    let mut future = with_edns(question("cluster.local", RecordType::SOA), 1232);
    future.edns.as_mut().unwrap().set_version(1);
    // The library calls 16 `BADSIG`, which it is only beside a signature.
    let code = u16::from(ask(server, &future).await.metadata.response_code);
    assert_eq!(code, u16::from(ResponseCode::BADVERS));
}

#[tokio::test]
async fn garbage_is_survived() {
    let (server, _serving) = cluster_dns(&[]);
    let socket = StdUdpSocket::bind(LOOPBACK).unwrap();
    let good = question("web.default.svc.cluster.local", RecordType::A)
        .to_vec()
        .unwrap();
    for round in 0..2000_usize {
        // Half of it is noise, half a question with a byte turned.
        let mut bytes = good.clone();
        if round % 2 == 0 {
            bytes.resize_with(round % 300, rand::random);
            bytes.iter_mut().for_each(|byte| *byte = rand::random());
        } else {
            bytes[round % good.len()] = rand::random();
        }
        socket.send_to(&bytes, server).unwrap();
    }
    let answer = ask(
        server,
        &question("web.default.svc.cluster.local", RecordType::A),
    )
    .await;
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test]
async fn names_of_others_are_asked_of_others_as_they_came() {
    let (upstream, _upstream) = serve(|bytes: &[u8], reply: Reply| {
        let mut answer = bytes.to_vec();
        answer[2] |= 0x80;
        answer.extend_from_slice(b"not a record");
        reply.send(&answer);
    });
    let (server, _serving) = cluster_dns(&[upstream]);
    let asked = with_edns(question("wWw.example", RecordType::Unknown(4242)), 1400);
    let bytes = asked.to_vec().unwrap();
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.send_to(&bytes, server).await.unwrap();
    let mut buffer = [0; 512];
    let length = timeout(LIMIT, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(buffer[3..bytes.len()], bytes[3..]);
    assert_eq!(&buffer[bytes.len()..length], b"not a record");
}

#[tokio::test]
async fn addresses_of_the_cluster_have_names_and_others_are_for_others() {
    let (upstream, _upstream) = serve(|bytes: &[u8], reply: Reply| {
        reply.send(&message::refusal(bytes, ResponseCode::YXDomain));
    });
    let (server, _serving) = cluster_dns(&[upstream]);
    let own = ask(server, &question("2.1.96.10.in-addr.arpa", RecordType::PTR)).await;
    assert_eq!(
        own.answers[0].data.to_string(),
        "web.default.svc.cluster.local."
    );
    for others in ["1.50.168.192.in-addr.arpa", "96.10.in-addr.arpa"] {
        let answer = ask(server, &question(others, RecordType::PTR)).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::YXDomain,
            "{others}"
        );
    }
}

#[tokio::test]
async fn an_external_name_is_resolved_to_its_end() {
    let (upstream, _upstream) = office();
    let (server, _serving) = cluster_dns(&[upstream]);
    let asked = question("elsewhere.default.svc.cluster.local", RecordType::A);
    for answer in [ask(server, &asked).await, ask_tcp(server, &asked).await] {
        let data: Vec<String> = answer
            .answers
            .iter()
            .map(|it| it.data.to_string())
            .collect();
        assert_eq!(data, ["www.office.test.", "192.0.2.80"]);
    }
    let missing = question("elsewhere.default.svc.cluster.local", RecordType::AAAA);
    let answer = ask(server, &missing).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(
        (answer.answers.len(), answer.authorities.len()),
        (1, 1),
        "the alias, and an SOA"
    );
}

#[tokio::test]
async fn a_dead_upstream_is_a_failure_within_two_seconds_and_the_next_is_asked() {
    let mute = StdUdpSocket::bind(LOOPBACK).unwrap();
    let mute = mute.local_addr().map(|address| (mute, address)).unwrap();
    let (server, _serving) = cluster_dns(&[mute.1]);
    let stopwatch = Stopwatch::start();
    let failed = [
        question("www.office.test", RecordType::A),
        question("elsewhere.default.svc.cluster.local", RecordType::A),
    ];
    let answers =
        futures_util::future::join_all(failed.iter().map(|asked| ask(server, asked))).await;
    assert!(
        stopwatch.elapsed() < Duration::from_secs(2),
        "took {:?}",
        stopwatch.elapsed()
    );
    assert!(
        answers
            .iter()
            .all(|it| it.metadata.response_code == ResponseCode::ServFail)
    );

    let (alive, _office) = office();
    let (server, _serving) = cluster_dns(&[mute.1, alive]);
    let answer = ask(server, &question("www.office.test", RecordType::A)).await;
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test]
async fn before_the_lists_are_in_the_cluster_fails_and_the_rest_works() {
    let (upstream, _upstream) = office();
    let domain = records::absolute("cluster.local").unwrap();
    let (server, _serving) = serve(ClusterDns::new(
        domain,
        Some(Upstream::new(&[upstream], patience(1))),
    ));
    let own = ask(
        server,
        &question("web.default.svc.cluster.local", RecordType::A),
    )
    .await;
    assert_eq!(own.metadata.response_code, ResponseCode::ServFail);
    let others = ask(server, &question("www.office.test", RecordType::A)).await;
    assert_eq!(others.answers.len(), 1);
}

#[tokio::test]
async fn ten_thousand_questions_are_answered_in_time() {
    let (server, _serving) = cluster_dns(&[]);
    let stopwatch = Stopwatch::start();
    let asking = (0..20).map(|_| async move {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        socket.connect(server).await.unwrap();
        let bytes = question("web.default.svc.cluster.local", RecordType::A)
            .to_vec()
            .unwrap();
        let mut buffer = [0; 512];
        // Ten at a time of each: more than the kernel holds it may drop, which is no fault of the server.
        for _ in 0..50 {
            for _ in 0..10 {
                socket.send(&bytes).await.unwrap();
            }
            for _ in 0..10 {
                let length = timeout(LIMIT, socket.recv(&mut buffer))
                    .await
                    .unwrap()
                    .unwrap();
                assert_eq!(
                    Message::from_vec(&buffer[..length]).unwrap().answers.len(),
                    1
                );
            }
        }
    });
    futures_util::future::join_all(asking).await;
    assert!(
        stopwatch.elapsed() < LIMIT,
        "took {:?}",
        stopwatch.elapsed()
    );
}

fn settings(text: &str) -> Result<Settings, clap::Error> {
    Settings::parse(text.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn flags_are_understood_and_kubeadms_are_passed_over() {
    for conf in [
        "-conf /etc/coredns/Corefile",
        "-conf=Corefile",
        "--conf Corefile",
    ] {
        let settings = settings(&format!(
            "{conf} --upstream 192.0.2.1 192.0.2.2:54 --upstream=::1 --domain Example.Org"
        ))
        .unwrap();
        assert!(settings.conf.is_some());
        assert_eq!(settings.listen, "0.0.0.0:53".parse().unwrap());
        let upstream: Vec<String> = settings
            .upstream
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        assert_eq!(upstream, ["192.0.2.1:53", "192.0.2.2:54", "[::1]:53"]);
        assert_eq!(settings.domain, records::absolute("example.org").unwrap());
    }
}

#[test]
fn no_upstream_and_none_said_are_two_things() {
    assert_eq!(settings("").unwrap().upstream, None);
    assert_eq!(settings("--upstream").unwrap().upstream, Some(Vec::new()));
}

#[test]
fn wrong_flags_are_named() {
    for (text, part) in [
        ("--domain ..", "`..` is no domain"),
        ("--upstream nowhere", "'nowhere' for '--upstream"),
        ("--listen 53", "'53' for '--listen"),
        ("-config x", "'-c'"),
        ("--lisen x", "'--listen'"),
    ] {
        let error = settings(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
