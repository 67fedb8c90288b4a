//! What a question costs the forwarder on a laptop and the cluster's DNS: reading it, telling whether an answer is
//! its answer, refusing it; and asking it over loopback, of a server that knows the answer already.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use inroads_harness::dns::message::{self, UDP_PAYLOAD};
use inroads_harness::dns::{Patience, Reply, Server, Sockets, Upstream};

/// A name as long as most in a cluster.
const NAME: &str = "directory.inroads.svc.cluster.local.";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let query = query();
    let answer = answer_to(&query);
    messages(&mut criterion, &wire(&query), &wire(&answer));
    asking(&mut criterion, &wire(&query), &wire(&answer));
    criterion.final_summary();
}

fn messages(criterion: &mut Criterion, query: &[u8], answer: &[u8]) {
    let refuse = |query: &[u8]| message::refusal(query, ResponseCode::ServFail);
    let question = message::question(query).expect("it is one");
    assert_eq!(question.name().len(), NAME.len() + 1);
    assert!(message::answers(query, answer));
    let refusal = Message::from_vec(&refuse(query)).expect("it is a message");
    assert_eq!(refusal.metadata.response_code, ResponseCode::ServFail);
    assert!(refusal.edns.is_some());

    let mut group = criterion.benchmark_group("dns/message");
    group.throughput(Throughput::Elements(1));
    group.bench_function("question", |bencher| {
        bencher.iter(|| message::question(black_box(query)).map(|it| it.kind()));
    });
    group.bench_function("answers", |bencher| {
        bencher.iter(|| message::answers(black_box(query), black_box(answer)));
    });
    group.bench_function("refusal", |bencher| {
        bencher.iter(|| refuse(black_box(query)));
    });
    group.finish();
}

/// One question after the other: a round trip, most of which is the kernel's and tokio's.
fn asking(criterion: &mut Criterion, query: &[u8], answer: &[u8]) {
    let runtime = tokio::runtime::Runtime::new().expect("threads and an epoll instance");
    let (_server, upstream) = runtime.block_on(async { served(answer.to_vec()) });
    let got = runtime.block_on(upstream.ask(query));
    assert_eq!(got.expect("the server is here")[2..], answer[2..]);

    let mut group = criterion.benchmark_group("dns/loopback");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ask", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { upstream.ask(black_box(query)).await });
    });
    group.finish();
}

/// A server that answers everything with `answer`, and whoever asks it.
fn served(answer: Vec<u8>) -> (Server, Upstream) {
    let sockets = Sockets::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let sockets = sockets.expect("loopback has a free port");
    let address = sockets.local_addr().expect("it is bound");
    let respond = move |query: &[u8], reply: Reply| {
        let mut answer = answer.clone();
        message::set_id(&mut answer, message::id(query));
        reply.send(&answer);
    };
    let patience = Patience {
        attempt: Duration::from_secs(1),
        attempts: 2,
    };
    (
        Server::start(sockets, Arc::new(respond)),
        Upstream::new(&[address], patience),
    )
}

/// What resolvers send: one question, and how large an answer they take.
fn query() -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(), RecordType::A));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    query.set_edns(edns);
    query
}

/// Its answer: one address.
fn answer_to(query: &Message) -> Message {
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.add_answer(Record::from_rdata(
        name(),
        5,
        RData::A(A(Ipv4Addr::new(10, 96, 0, 80))),
    ));
    answer
}

fn name() -> Name {
    Name::from_ascii(NAME).expect("it is one")
}

fn wire(message: &Message) -> Vec<u8> {
    message.to_vec().expect("it fits")
}
