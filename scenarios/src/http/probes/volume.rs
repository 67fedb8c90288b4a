//! Much at once: bytes, streams that block, and connections.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, stream};
use inroads_harness::clock;
use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use tokio::time::timeout;

use super::super::POD_PORT;
use super::super::connection::Connection;
use super::super::server::RIGHT;
use super::super::stream::{Check, pieces};
use super::wire::Echo;
use super::{ANSWER_LIMIT, asked_name, endpoints};

/// The size of the bulk transfer each way, in bytes. All methods are asked at the same time, on one machine.
const BULK: u64 = 64 << 20;

/// Longest time for it, each way.
const BULK_LIMIT: Duration = Duration::from_secs(5);

/// What is asked for where it is not to be taken whole, in bytes: more than any buffers on the way hold.
const ENDLESS: u64 = 1 << 30;

/// How often a download is given up.
const CANCELS: usize = 3;

/// How much of it is taken first, in bytes.
const TAKEN: u64 = 1 << 20;

/// Streams that must go on beside one that nobody reads.
const OTHERS: usize = 20;

/// How long a stream that nobody reads gets to fill what is on its way.
const FILL: Duration = Duration::from_millis(400);

/// Connections open at once.
const OPEN: usize = 500;

/// Longest time for them.
const OPEN_LIMIT: Duration = Duration::from_secs(7);

/// Connections one after another at most, and how many of them at a time.
const CHURN: usize = 2000;
const CHURN_AT_ONCE: usize = 16;

/// How long they go on at most: how many there are by then is a figure of the loads, not a verdict.
const CHURN_TIME: Duration = Duration::from_secs(3);

/// Large transfers arrive as they were sent, byte for byte; and a download that is given up leaves nothing that
/// stands in the way of the next request.
pub(super) async fn bulk_hash(dialer: &Dialer, workload: &Workload) -> Attempt {
    let mebibytes = BULK >> 20;
    let expected = format!(
        "{mebibytes} MiB each way arrive as they were sent, and the next request works after {CANCELS} downloads given up"
    );
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let host = pod.ip.to_string();
    let mut seen = Vec::new();
    let started = clock::now();
    for (way, outcome) in [
        ("down", within(BULK_LIMIT, download(dialer, &host)).await),
        ("up", within(BULK_LIMIT, upload(dialer, &host)).await),
    ] {
        match outcome {
            Ok(()) => seen.push(format!("{mebibytes} MiB {way} as sent")),
            Err(error) => {
                let after = started.elapsed().as_millis();
                seen.push(format!("{way}: {error} ({after} ms after the start)"));
                return Attempt::fail(expected, seen.join(", "));
            }
        }
    }
    seen.push(format!("{} ms in all", started.elapsed().as_millis()));
    for number in 1..=CANCELS {
        let given_up = within(ANSWER_LIMIT, give_up(dialer, &host)).await;
        let outcome = match given_up {
            Ok(()) => asked_name(dialer, &host, POD_PORT).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            seen.push(format!("download {number} given up: {error}"));
            return Attempt::fail(expected, seen.join(", "));
        }
    }
    seen.push(format!("{CANCELS} given up, and the next request answered"));
    Attempt::pass(expected, seen.join(", "))
}

async fn download(dialer: &Dialer, host: &str) -> Result<(), OpError> {
    let mut connection = Connection::open(dialer, host, POD_PORT).await?;
    ask_for(&mut connection, BULK).await?;
    let mut check = Check::default();
    connection.receive_with(|piece| check.take(piece)).await?;
    check.finish(BULK).map_err(OpError)
}

async fn upload(dialer: &Dialer, host: &str) -> Result<(), OpError> {
    let mut connection = Connection::open(dialer, host, POD_PORT).await?;
    let HttpRoute { host, prefix } = connection.route();
    let head = format!(
        "POST {prefix}/stream/{BULK} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {BULK}\r\n\r\n"
    );
    connection.send(head.as_bytes()).await?;
    for piece in pieces(BULK) {
        connection.send(&piece).await?;
    }
    let (answer, body) = connection.receive_whole().await?;
    let said = String::from_utf8_lossy(&answer[body..]).into_owned();
    if said == RIGHT {
        Ok(())
    } else {
        Err(OpError(said))
    }
}

/// Begins a download and drops its connection.
async fn give_up(dialer: &Dialer, host: &str) -> Result<(), OpError> {
    let mut connection = Connection::open(dialer, host, POD_PORT).await?;
    ask_for(&mut connection, ENDLESS).await?;
    connection.receive_at_least(TAKEN).await
}

async fn ask_for(connection: &mut Connection, count: u64) -> Result<(), OpError> {
    let HttpRoute { host, prefix } = connection.route();
    let request = format!("GET {prefix}/stream/{count} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection.send(request.as_bytes()).await
}

/// A stream that nobody reads fills what is on its way, and others do not wait for it.
pub(super) async fn head_of_line(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = format!("{OTHERS} requests are answered beside a stream that nobody reads");
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let host = pod.ip.to_string();
    let blocking = async {
        let mut connection = Connection::open(dialer, &host, POD_PORT).await?;
        ask_for(&mut connection, ENDLESS).await?;
        // So that it is known to be under way.
        connection.receive_at_least(1).await?;
        Ok(connection)
    };
    let blocked = match within(ANSWER_LIMIT, blocking).await {
        Ok(connection) => connection,
        Err(error) => return Attempt::fail(expected, format!("the stream itself: {error}")),
    };
    tokio::time::sleep(FILL).await;
    let started = clock::now();
    let asked = (0..OTHERS).map(|_| asked_name(dialer, &host, POD_PORT));
    let answers = join_all(asked).await;
    let took = started.elapsed().as_millis();
    drop(blocked);
    let errors: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
    match errors.first() {
        None => Attempt::pass(expected, format!("all of {OTHERS} after {took} ms")),
        Some(first) => Attempt::fail(
            expected,
            format!("{} of {OTHERS} failed, the first: {first}", errors.len()),
        ),
    }
}

/// Hundreds of connections at once, all of them used; then thousands one after another.
pub(super) async fn many(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = format!(
        "{OPEN} connections open at once all echo, and so do up to {CHURN} in turn, {CHURN_AT_ONCE} at a time"
    );
    let hosts: Vec<String> = endpoints(workload)
        .iter()
        .map(|(_, pod)| pod.ip.to_string())
        .collect();
    if hosts.is_empty() {
        return Attempt::fail("the workload", "it has no pods");
    }
    let at_once = match at_once(dialer, &hosts).await {
        Ok(seen) => seen,
        Err(seen) => return Attempt::fail(expected, seen),
    };
    match in_turn(dialer, &hosts).await {
        Ok(seen) => Attempt::pass(expected, format!("{at_once}, {seen}")),
        Err(seen) => Attempt::fail(expected, format!("{at_once}, {seen}")),
    }
}

async fn at_once(dialer: &Dialer, hosts: &[String]) -> Result<String, String> {
    let started = clock::now();
    let together = async {
        let host = |number: usize| hosts[number % hosts.len()].as_str();
        let opening = (0..OPEN).map(|number| Echo::open_within(OPEN_LIMIT, dialer, host(number)));
        let mut open = try_join_all(opening).await?;
        // All are open now. Each still works.
        let again = open.iter_mut();
        try_join_all(again.map(|echo| echo.say_within(OPEN_LIMIT, b"and now?"))).await
    };
    let outcome = timeout(OPEN_LIMIT, together).await;
    let took = started.elapsed().as_millis();
    match outcome {
        Ok(Ok(_)) => Ok(format!("{OPEN} at once after {took} ms")),
        Ok(Err(error)) => Err(format!("{OPEN} at once, after {took} ms: {error}")),
        Err(_elapsed) => Err(format!(
            "{OPEN} at once were not done within {} s",
            OPEN_LIMIT.as_secs()
        )),
    }
}

async fn in_turn(dialer: &Dialer, hosts: &[String]) -> Result<String, String> {
    let started = clock::now();
    let mut done: usize = 0;
    let churning = async {
        let host = |number: usize| hosts[number % hosts.len()].as_str();
        let mut turns = stream::iter(0..CHURN)
            .map(|number| Echo::open(dialer, host(number)))
            .buffer_unordered(CHURN_AT_ONCE);
        while let Some(turn) = turns.next().await {
            turn.map_err(|error| format!("after {done} in turn: {error}"))?;
            done += 1;
        }
        Ok::<_, String>(())
    };
    // Time that runs out ends it: what was asked for by then was answered.
    if let Ok(Err(error)) = timeout(CHURN_TIME, churning).await {
        return Err(error);
    }
    let took = started.elapsed().as_millis();
    let seen = format!("{done} in turn in {took} ms");
    if done < CHURN_AT_ONCE {
        return Err(seen);
    }
    Ok(seen)
}

/// An outcome that comes in time, as text.
async fn within<T>(
    limit: Duration,
    outcome: impl Future<Output = Result<T, OpError>>,
) -> Result<T, String> {
    match timeout(limit, outcome).await {
        Ok(outcome) => outcome.map_err(|error| error.0),
        Err(_elapsed) => Err(format!("not done within {} s", limit.as_secs())),
    }
}
