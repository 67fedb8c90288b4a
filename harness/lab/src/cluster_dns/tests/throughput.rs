//! How many questions one core answers. Run it with
//! `cargo test -p inroads-lab --lib throughput -- --ignored --nocapture`.

use std::net::UdpSocket as StdUdpSocket;
use std::sync::mpsc;
use std::thread;

use nix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

use super::*;

/// How long each question is asked over and over.
const SPAN: Duration = Duration::from_secs(1);

/// Questions open at once.
const WINDOW: usize = 64;

#[test]
#[ignore = "measures for seconds, and asserts nothing that a busy machine could not refute"]
fn questions_per_second_of_one_core() {
    for (what, name, kind) in [
        (
            "A of a Service",
            "web.default.svc.cluster.local",
            RecordType::A,
        ),
        (
            "A of a headless Service",
            "db.default.svc.cluster.local",
            RecordType::A,
        ),
        (
            "SRV of two endpoints",
            "_http._tcp.db.default.svc.cluster.local",
            RecordType::SRV,
        ),
        (
            "a missing name",
            "missing.default.svc.cluster.local",
            RecordType::A,
        ),
        (
            "A of 120 endpoints, cut",
            "crowd.default.svc.cluster.local",
            RecordType::A,
        ),
    ] {
        let (rate, per_question) = measure(&question(name, kind));
        println!("{what:26} {rate:8.0} questions/s, {per_question:?} of CPU each");
    }
}

/// Questions per second over loopback, and what one costs the server.
fn measure(question: &Message) -> (f64, Duration) {
    let (address, serving) = mpsc::channel();
    let stop = CancellationToken::new();
    let server = thread::spawn({
        let stop = stop.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (server, _serving) = cluster_dns(&[]);
                address.send(server).unwrap();
                stop.cancelled().await;
            });
            Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
        }
    });
    let client = StdUdpSocket::bind(LOOPBACK).unwrap();
    client.connect(serving.recv().unwrap()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let bytes = question.to_vec().unwrap();
    let mut buffer = vec![0; message::MAX];
    for _ in 0..WINDOW {
        client.send(&bytes).unwrap();
    }
    let stopwatch = Stopwatch::start();
    let mut answered = 0_u32;
    while stopwatch.elapsed() < SPAN {
        client.recv(&mut buffer).unwrap();
        client.send(&bytes).unwrap();
        answered += 1;
    }
    let elapsed = stopwatch.elapsed();
    stop.cancel();
    (
        f64::from(answered) / elapsed.as_secs_f64(),
        server.join().unwrap() / answered,
    )
}
