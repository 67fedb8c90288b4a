use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use inroads_harness::clock::Stopwatch;
use inroads_harness::dns::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

const LOOPBACK: &str = "127.0.0.1:0";

/// A server that answers with its name and the transport, where no decoder would look for them.
fn server(name: &'static str) -> (SocketAddr, Server) {
    serve(move |query: &[u8], reply: Reply| {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer.extend_from_slice(name.as_bytes());
        answer.extend_from_slice(match reply.transport() {
            Transport::Udp => b" over UDP",
            Transport::Tcp => b" over TCP",
        });
        reply.send(&answer);
    })
}

fn serve(responder: impl Responder) -> (SocketAddr, Server) {
    let sockets = Sockets::bind(LOOPBACK.parse().unwrap()).unwrap();
    let address = sockets.local_addr().unwrap();
    (address, Server::start(sockets, Arc::new(responder)))
}

fn split(cluster: &[SocketAddr], office: &[SocketAddr]) -> SplitDns {
    SplitDns::start(SplitDnsConfig {
        listen: Listen::On(LOOPBACK.parse().unwrap()),
        domains: vec!["cluster.local".to_owned()],
        networks: vec![
            "10.244.0.0/16".parse().unwrap(),
            "10.96.0.0/12".parse().unwrap(),
        ],
        cluster: cluster.to_vec(),
        office: office.to_vec(),
    })
    .unwrap()
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn ask(resolver: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(resolver).await.unwrap();
    socket.send(query).await.unwrap();
    let mut buffer = vec![0; message::MAX];
    let length = timeout(LIMIT, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer.truncate(length);
    buffer
}

async fn ask_tcp(resolver: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(resolver).await.unwrap();
    stream
        .write_u16(u16::try_from(query.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(query).await.unwrap();
    let length = timeout(LIMIT, stream.read_u16()).await.unwrap().unwrap();
    let mut answer = vec![0; length.into()];
    timeout(LIMIT, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

/// The answer, which must begin as the query with its response bit set, and what the server put behind.
fn said<'a>(query: &[u8], answer: &'a [u8]) -> &'a str {
    let (echo, said) = answer.split_at(query.len());
    assert_eq!(
        (echo[..2].to_vec(), echo[2], &echo[3..]),
        (query[..2].to_vec(), query[2] | 0x80, &query[3..])
    );
    std::str::from_utf8(said).unwrap()
}

fn code(answer: &[u8]) -> ResponseCode {
    Message::from_vec(answer).unwrap().metadata.response_code
}

#[tokio::test]
async fn each_side_is_asked_for_its_own_and_nothing_else() {
    let ((cluster, _c), (office, _o)) = (server("cluster"), server("office"));
    let resolver = split(&[cluster], &[office]);
    for (name, side) in [
        ("web.default.svc.cluster.local.", "cluster"),
        ("wEb.DEFAULT.svc.Cluster.Local.", "cluster"),
        ("5.1.244.10.in-addr.arpa.", "cluster"),
        ("10.0.96.10.in-addr.arpa.", "cluster"),
        ("1.0.112.10.in-addr.arpa.", "office"),
        ("53.50.168.192.in-addr.arpa.", "office"),
        ("intranet.office.test.", "office"),
        ("notcluster.local.", "office"),
        (".", "office"),
    ] {
        let query = question(name);
        let answer = ask(resolver.address(), &query).await;
        assert_eq!(said(&query, &answer), format!("{side} over UDP"), "{name}");
        let answer = ask_tcp(resolver.address(), &query).await;
        assert_eq!(said(&query, &answer), format!("{side} over TCP"), "{name}");
    }
}

#[tokio::test]
async fn a_side_that_refuses_fails_at_once_and_the_other_does_not_mind() {
    let (office, _office) = server("office");
    let closed = UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let resolver = split(&[closed], &[office]);
    let stopwatch = Stopwatch::start();
    let query = question("web.default.svc.cluster.local.");
    assert_eq!(
        code(&ask(resolver.address(), &query).await),
        ResponseCode::ServFail
    );
    assert_eq!(
        code(&ask_tcp(resolver.address(), &query).await),
        ResponseCode::ServFail
    );
    assert!(
        stopwatch.elapsed() < Duration::from_secs(1),
        "took {:?}",
        stopwatch.elapsed()
    );
    let query = question("intranet.office.test.");
    assert_eq!(
        said(&query, &ask(resolver.address(), &query).await),
        "office over UDP"
    );
}

#[tokio::test]
async fn a_silent_side_holds_nobody_up() {
    let mute = UdpSocket::bind(LOOPBACK).unwrap();
    let (office, _office) = server("office");
    let resolver = split(&[mute.local_addr().unwrap()], &[office]);
    let waiting = UdpSocket::bind(LOOPBACK).unwrap();
    for _ in 0..1000 {
        waiting
            .send_to(&question("x.cluster.local."), resolver.address())
            .unwrap();
    }
    let stopwatch = Stopwatch::start();
    for _ in 0..100 {
        let query = question("intranet.office.test.");
        assert_eq!(
            said(&query, &ask(resolver.address(), &query).await),
            "office over UDP"
        );
    }
    assert!(
        stopwatch.elapsed() < Duration::from_secs(1),
        "took {:?}",
        stopwatch.elapsed()
    );
}

#[tokio::test]
async fn a_broken_question_is_told_so_and_garbage_is_survived() {
    let ((cluster, _c), (office, _o)) = (server("cluster"), server("office"));
    let resolver = split(&[cluster], &[office]);
    let mut broken = question("web.cluster.local.");
    broken[message::HEADER] = 0xc0;
    assert_eq!(
        code(&ask(resolver.address(), &broken).await),
        ResponseCode::FormErr
    );
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let mut noise = Vec::new();
    for length in 0..1000 {
        noise.clear();
        noise.resize_with(length, rand::random::<u8>);
        socket.send_to(&noise, resolver.address()).unwrap();
        if length % 50 == 0 {
            let mut stream = TcpStream::connect(resolver.address()).await.unwrap();
            let _may_be_closed_on_us = stream.write_all(&noise).await;
        }
    }
    let query = question("web.cluster.local.");
    assert_eq!(
        said(&query, &ask(resolver.address(), &query).await),
        "cluster over UDP"
    );
    assert_eq!(
        said(&query, &ask_tcp(resolver.address(), &query).await),
        "cluster over TCP"
    );
}

#[tokio::test]
async fn ten_thousand_questions_are_all_answered_by_the_right_side() {
    let ((cluster, _c), (office, _o)) = (server("cluster"), server("office"));
    let resolver = split(&[cluster], &[office]);
    let address = resolver.address();
    let stopwatch = Stopwatch::start();
    let clients = (0..20).map(|client| async move {
        let socket = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
        socket.connect(address).await.unwrap();
        let side = if client % 2 == 0 { "cluster" } else { "office" };
        let name = if client % 2 == 0 {
            "x.cluster.local."
        } else {
            "x.office.test."
        };
        let mut buffer = [0; 512];
        // Ten at a time of each: more than the kernel holds it may drop.
        for round in 0..50_u16 {
            let mut query = question(name);
            for number in 0..10 {
                message::set_id(&mut query, round * 10 + number);
                socket.send(&query).await.unwrap();
            }
            let mut ids: Vec<u16> = Vec::new();
            for _ in 0..10 {
                let length = timeout(LIMIT, socket.recv(&mut buffer))
                    .await
                    .unwrap()
                    .unwrap();
                ids.push(message::id(&buffer));
                message::set_id(&mut query, message::id(&buffer));
                assert_eq!(said(&query, &buffer[..length]), format!("{side} over UDP"));
            }
            ids.sort_unstable();
            assert_eq!(ids, (round * 10..round * 10 + 10).collect::<Vec<_>>());
        }
    });
    futures_util::future::join_all(clients).await;
    assert!(
        stopwatch.elapsed() < LIMIT,
        "took {:?}",
        stopwatch.elapsed()
    );
}

#[tokio::test]
async fn closing_frees_the_address_and_dropping_does_too() {
    let (office, _office) = server("office");
    let resolver = split(&[office], &[office]);
    let address = resolver.address();
    resolver.shutdown().await;
    let given = Listen::Through {
        udp: UdpSocket::bind(address).unwrap(),
        tcp: TcpListener::bind(address).unwrap(),
    };
    let again = SplitDns::start(SplitDnsConfig {
        listen: given,
        domains: vec![],
        networks: vec![],
        cluster: vec![],
        office: vec![office],
    });
    let again = again.unwrap();
    let query = question("x.office.test.");
    assert_eq!(
        said(&query, &ask(again.address(), &query).await),
        "office over UDP"
    );
    drop(again);
    let freed = async {
        while UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, freed).await.unwrap();
}

#[tokio::test]
async fn a_domain_that_is_none_is_named() {
    let config = SplitDnsConfig {
        listen: Listen::On(LOOPBACK.parse().unwrap()),
        domains: vec!["cluster..local".to_owned()],
        networks: vec![],
        cluster: vec![],
        office: vec![],
    };
    let error = SplitDns::start(config).err().unwrap();
    assert_eq!(error.to_string(), "`cluster..local` is no domain");
}
