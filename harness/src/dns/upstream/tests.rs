use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::clock::Stopwatch;
use crate::dns::{Server as Listening, Sockets};

const LIMIT: Duration = Duration::from_secs(5);

const BRIEF: Patience = Patience {
    attempt: Duration::from_millis(150),
    attempts: 2,
};

const PATIENT: Patience = Patience {
    attempt: LIMIT,
    attempts: 2,
};

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message::set_id(&mut message, id);
    message.push(u8::try_from(name.len()).unwrap());
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(b"\0\0\x01\0\x01");
    message
}

/// An answer, as far as anyone here can tell: the question, and bytes that no decoder would like.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message[7] = 1;
    message.extend_from_slice(b"\xff\xfe not a record \0");
    message
}

fn truncated(query: &[u8]) -> Vec<u8> {
    let mut message = answer(query);
    message[2] |= 2;
    message
}

fn serve(responder: impl crate::dns::Responder) -> (SocketAddr, Listening) {
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sockets.local_addr().unwrap();
    (address, Listening::start(sockets, Arc::new(responder)))
}

/// A server that answers everything.
fn willing() -> (SocketAddr, Listening) {
    serve(|query: &[u8], reply: Reply| reply.send(&answer(query)))
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A server that takes everything and says nothing.
async fn silent() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    (socket.local_addr().unwrap(), socket)
}

#[tokio::test]
async fn bytes_stay_as_they_came() {
    let (server, _listening) = willing();
    let upstream = Upstream::new(&[server], PATIENT);
    let query = question(7, "WeB");
    assert_eq!(upstream.ask(&query).await.unwrap(), answer(&query));
    assert_eq!(upstream.ask_tcp(&query).await.unwrap(), answer(&query));
}

#[tokio::test]
async fn a_forged_answer_is_passed_over() {
    let (server, socket) = silent().await;
    let upstream = Upstream::new(&[server], PATIENT);
    let query = question(7, "web");
    let asking = tokio::spawn({
        let query = query.clone();
        async move { upstream.ask(&query).await }
    });
    let mut asked = [0; 512];
    let (length, client) = socket.recv_from(&mut asked).await.unwrap();
    let asked = &asked[..length];
    assert_eq!(asked[2..], query[2..]);
    let send = async |message: &[u8]| {
        socket.send_to(message, client).await.unwrap();
    };

    let mut other_id = answer(asked);
    message::set_id(&mut other_id, message::id(asked).wrapping_add(1));
    send(&other_id).await;
    send(&answer(&question(message::id(asked), "wob"))).await;
    send(asked).await;
    send(&asked[..5]).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&truncated(asked), client).await.unwrap();
    send(&answer(asked)).await;

    let answered = timeout(LIMIT, asking).await.unwrap().unwrap().unwrap();
    assert_eq!(answered, answer(&query));
}

#[tokio::test]
async fn ids_and_ports_are_not_the_clients() {
    let (server, socket) = silent().await;
    let upstream = Upstream::new(&[server], PATIENT);
    let mut ids = std::collections::HashSet::new();
    let mut buffer = [0; 512];
    for _ in 0..64 {
        upstream.ask_udp(&question(7, "web"), |_, _| {});
        socket.recv_from(&mut buffer).await.unwrap();
        ids.insert(message::id(&buffer));
    }
    assert_eq!(ids.len(), 64, "each open question has an id of its own");
}

#[tokio::test]
async fn a_refusal_fails_at_once() {
    let upstream = Upstream::new(&[nobody().await], PATIENT);
    let started = Stopwatch::start();
    let error = upstream.ask(&question(7, "web")).await.unwrap_err();
    assert!(
        matches!(
            error,
            AskError::Unreachable(io::ErrorKind::ConnectionRefused)
        ),
        "{error}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn an_address_without_a_route_fails_at_once_and_harms_nobody() {
    // A class E address: no host has a route that takes it.
    let (server, _listening) = willing();
    let upstream = Upstream::new(&["255.255.255.255:53".parse().unwrap(), server], PATIENT);
    let query = question(7, "web");
    let answered = timeout(LIMIT / 2, upstream.ask(&query)).await.unwrap();
    assert_eq!(answered.unwrap(), answer(&query));
}

#[tokio::test]
async fn a_silent_server_costs_its_time_once() {
    let (mute, _socket) = silent().await;
    let (server, _listening) = willing();
    let upstream = Upstream::new(&[mute, server], BRIEF);
    let query = question(7, "web");
    let started = Stopwatch::start();
    assert_eq!(upstream.ask(&query).await.unwrap(), answer(&query));
    assert!(
        started.elapsed() >= BRIEF.attempt,
        "the first is asked first"
    );
    let again = Stopwatch::start();
    assert_eq!(upstream.ask(&query).await.unwrap(), answer(&query));
    assert!(
        again.elapsed() < BRIEF.attempt,
        "the one that answers is kept"
    );
}

#[tokio::test]
async fn silence_ends_with_the_patience() {
    let (mute, _socket) = silent().await;
    let upstream = Upstream::new(&[mute], BRIEF);
    let started = Stopwatch::start();
    let error = upstream.ask(&question(7, "web")).await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut), "{error}");
    assert!(
        started.elapsed() >= 2 * BRIEF.attempt,
        "took {:?}",
        started.elapsed()
    );
    let none = Upstream::new(&[], BRIEF).ask(&question(7, "web")).await;
    assert!(matches!(none, Err(AskError::NoServer)));
}

#[tokio::test]
async fn a_server_that_comes_back_is_asked_again() {
    let address = nobody().await;
    let upstream = Upstream::new(&[address], BRIEF);
    let query = question(7, "web");
    upstream.ask(&query).await.unwrap_err();
    let sockets = Sockets::bind(address).unwrap();
    let respond = |query: &[u8], reply: Reply| reply.send(&answer(query));
    let listening = Listening::start(sockets, Arc::new(respond));
    assert_eq!(upstream.ask(&query).await.unwrap(), answer(&query));
    assert_eq!(upstream.ask_tcp(&query).await.unwrap(), answer(&query));
    listening.shutdown().await;
    upstream.ask(&query).await.unwrap_err();
    upstream.ask_tcp(&query).await.unwrap_err();
}

#[tokio::test]
async fn what_is_cut_is_asked_for_over_tcp() {
    let (server, _listening) = serve(|query: &[u8], reply: Reply| match reply.transport() {
        Transport::Udp => reply.send(&truncated(query)),
        Transport::Tcp => reply.send(&answer(query)),
    });
    let upstream = Upstream::new(&[server], PATIENT);
    let query = question(7, "web");
    assert_eq!(upstream.ask(&query).await.unwrap(), answer(&query));
}

#[tokio::test]
async fn ten_thousand_questions_at_once_are_all_answered() {
    let (server, _listening) = willing();
    // Attempts in plenty: where the kernel's buffers are small, it drops some of such a burst.
    let patience = Patience {
        attempt: Duration::from_millis(500),
        attempts: 8,
    };
    let upstream = Upstream::new(&[server], patience);
    let (done, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let started = Stopwatch::start();
    for number in 0..10_000_u16 {
        let done = done.clone();
        upstream.ask_udp(&question(number, "web"), move |query, outcome| {
            let right = outcome.is_ok_and(|response| response == answer(query));
            done.send(right).unwrap();
        });
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(done);
    let mut answered = 0;
    while let Some(right) = timeout(LIMIT, outcomes.recv()).await.unwrap() {
        assert!(right);
        answered += 1;
    }
    assert_eq!(answered, 10_000);
    assert!(
        started.elapsed() < 2 * LIMIT,
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn too_many_open_questions_are_refused_and_not_queued() {
    let (mute, _socket) = silent().await;
    let upstream = Upstream::new(
        &[mute],
        Patience {
            attempt: LIMIT,
            attempts: 1,
        },
    );
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..20_000 {
        let refused = refused.clone();
        upstream.ask_udp(&question(7, "web"), move |_, outcome| {
            assert!(matches!(outcome, Err(AskError::Overloaded)));
            refused.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(refused.load(Ordering::Relaxed), 20_000 - 16_384);
}

#[tokio::test]
async fn closing_lets_go_of_open_questions() {
    let (mute, _socket) = silent().await;
    let upstream = Upstream::new(&[mute], PATIENT);
    let (open, closed) = oneshot::channel::<()>();
    upstream.ask_udp(&question(7, "web"), move |_, _| drop(open));
    timeout(LIMIT, upstream.shutdown()).await.unwrap();
    drop(upstream);
    assert!(timeout(LIMIT, closed).await.unwrap().is_err());
}
