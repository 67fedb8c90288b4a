//! Whether what a client sees of a connection is what the wire would show: refusals, ends, resets, and that
//! connections do not share their fates.

use std::io;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use inroads_harness::clock;
use inroads_harness::dial::Dialer;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::{PodFacts, Workload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::{CLOSED_PORT, ECHO_PORT};
use super::{ANSWER_LIMIT, endpoints};

/// How soon a refusal must come.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Waits of the half-close probe: real port-forwards cut after one second.
const WAITS_MS: [u64; 3] = [0, 500, 2000];

/// Connections that must outlive the failures of others.
const BYSTANDERS: usize = 5;

/// Connecting to a port where nobody listens is refused, quickly, before anything is accepted.
pub(super) async fn refused(dialer: &Dialer, workload: &Workload) -> Attempt {
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    refusal(dialer, &pod.ip.to_string(), CLOSED_PORT).await
}

/// Whether `host:port` refuses, quickly, before anything is accepted.
pub(super) async fn refusal(dialer: &Dialer, host: &str, port: u16) -> Attempt {
    let expected = format!("{host}:{port} refuses within {} s", AT_ONCE.as_secs());
    let started = clock::now();
    let Ok(outcome) = timeout(ANSWER_LIMIT, dialer.tcp(host, port)).await else {
        let seen = format!("neither yes nor no within {} s", ANSWER_LIMIT.as_secs());
        return Attempt::fail(expected, seen);
    };
    let took = started.elapsed();
    let ms = took.as_millis();
    match outcome {
        Err(error) if error.is_refused() && took < AT_ONCE => {
            Attempt::pass(expected, format!("{error} after {ms} ms"))
        }
        Err(error) => Attempt::fail(expected, format!("{error} after {ms} ms")),
        Ok(mut stream) => {
            // Accepted on behalf of a port that is closed. What becomes of it is the evidence.
            let mut byte = [0];
            let then = match timeout(ANSWER_LIMIT, stream.read(&mut byte)).await {
                Ok(Ok(0)) => "closed".to_owned(),
                Ok(Ok(_)) => "answered".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "left hanging".to_owned(),
            };
            Attempt::fail(expected, format!("accepted after {ms} ms, then {then}"))
        }
    }
}

/// The client ends its side; the server answers after a while.
pub(super) async fn half_close(dialer: &Dialer, workload: &Workload) -> Attempt {
    let waits: Vec<String> = WAITS_MS.iter().map(|ms| format!("{ms} ms")).collect();
    let expected = format!(
        "the whole answer, {} after the end of the client's side",
        waits.join(", ")
    );
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let asked = WAITS_MS.map(|wait| answer_after_end(dialer, pod, wait));
    let answers = join_all(asked).await;
    let mut wrong = Vec::new();
    for (wait, answer) in WAITS_MS.iter().zip(answers) {
        if let Err(error) = answer {
            wrong.push(format!("with {wait} ms: {error}"));
        }
    }
    if wrong.is_empty() {
        Attempt::pass(expected, "all answers whole")
    } else {
        Attempt::fail(expected, wrong.join(", "))
    }
}

async fn answer_after_end(dialer: &Dialer, pod: &PodFacts, wait_ms: u64) -> Result<(), String> {
    const PAYLOAD: usize = 10_000;
    let mut stream = dialer
        .tcp(&pod.ip.to_string(), ECHO_PORT)
        .await
        .map_err(|error| error.to_string())?;
    let said = async {
        stream
            .write_all(format!("count {wait_ms}\n").as_bytes())
            .await?;
        stream.write_all(&[b'x'; PAYLOAD]).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(ANSWER_LIMIT + Duration::from_millis(wait_ms), said).await;
    match answer {
        Ok(Ok(answer)) if answer == format!("{PAYLOAD}\n") => Ok(()),
        Ok(Ok(answer)) if answer.is_empty() => {
            Err("the connection ended without the answer".to_owned())
        }
        Ok(Ok(answer)) => Err(format!(
            "the server got {} bytes of {PAYLOAD}",
            answer.trim()
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("no answer".to_owned()),
    }
}

/// Connections that are refused, reset by the client, and aborted by the server: none of it is felt by others,
/// open or new.
pub(super) async fn blast_radius(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = format!(
        "{BYSTANDERS} connections go on, and a new one opens, after others were refused, reset and aborted"
    );
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    let host = pod.ip.to_string();
    let opening = (0..BYSTANDERS).map(|_| Echo::open(dialer, &host));
    let mut bystanders = match try_join_all(opening).await {
        Ok(bystanders) => bystanders,
        Err(error) => return Attempt::fail(expected, format!("before anything: {error}")),
    };
    let mut done = Vec::new();
    for (what, outcome) in [
        ("refused", refuse(dialer, &host).await),
        ("reset by the client", reset(dialer, &host).await),
        ("aborted by the server", abort(dialer, &host).await),
    ] {
        let said = match outcome {
            Ok(said) => said,
            Err(error) => return Attempt::fail(expected, format!("{what}: {error}")),
        };
        done.push(format!("{what} ({said})"));
        for (number, echo) in bystanders.iter_mut().enumerate() {
            if let Err(error) = echo.say(b"still there?").await {
                let number = number + 1;
                let seen = format!("{}: connection {number} broke: {error}", done.join(", "));
                return Attempt::fail(expected, seen);
            }
        }
        if let Err(error) = Echo::open(dialer, &host).await {
            let seen = format!("{}: a new connection: {error}", done.join(", "));
            return Attempt::fail(expected, seen);
        }
    }
    Attempt::pass(expected, format!("{}: none felt it", done.join(", ")))
}

/// A connection to a port where nobody listens; some methods accept it first.
async fn refuse(dialer: &Dialer, host: &str) -> Result<String, String> {
    match timeout(ANSWER_LIMIT, dialer.tcp(host, CLOSED_PORT)).await {
        Ok(Err(error)) => Ok(error.to_string()),
        Ok(Ok(mut stream)) => {
            let mut byte = [0];
            // What follows a false acceptance is asked of `fidelity/refused`.
            drop(timeout(AT_ONCE, stream.read(&mut byte)).await);
            Ok("after it was accepted".to_owned())
        }
        Err(_elapsed) => Err(format!("no outcome within {} s", ANSWER_LIMIT.as_secs())),
    }
}

/// A connection that the client resets in the middle of its data (RFC 9293 §3.5.3).
async fn reset(dialer: &Dialer, host: &str) -> Result<String, String> {
    let mut echo = Echo::open(dialer, host).await?;
    let sent = echo.stream.write_all(&[b'x'; 32 << 10]).await;
    sent.map_err(|error| error.to_string())?;
    let reset = echo.stream.set_zero_linger();
    reset.map_err(|error| error.to_string())?;
    Ok("with 32 KiB under way".to_owned())
}

/// A connection that the server aborts.
async fn abort(dialer: &Dialer, host: &str) -> Result<String, String> {
    let mut stream = dialer
        .tcp(host, ECHO_PORT)
        .await
        .map_err(|error| error.to_string())?;
    let sent = stream.write_all(b"abort\n").await;
    sent.map_err(|error| error.to_string())?;
    let mut byte = [0];
    match timeout(ANSWER_LIMIT, stream.read(&mut byte)).await {
        Ok(Ok(0)) => Ok("seen as an end".to_owned()),
        Ok(Ok(_)) => Err("the server answered".to_owned()),
        Ok(Err(error)) => Ok(format!("seen as: {error}")),
        Err(_elapsed) => Ok("not seen at all".to_owned()),
    }
}

/// A server's abort reaches the client as one (RFC 9293 §3.5.3), not as an end: who reads until the end would
/// take half an answer for a whole one.
pub(super) async fn seen_reset(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = "the client is told that the server has reset the connection";
    let pods = endpoints(workload);
    let Some((_, pod)) = pods.first() else {
        return Attempt::fail("the workload", "it has no pods");
    };
    match abort(dialer, &pod.ip.to_string()).await {
        Ok(seen) if seen.starts_with("seen as: ") => Attempt::pass(expected, seen),
        Ok(seen) => Attempt::fail(expected, seen),
        Err(error) => Attempt::fail(expected, error),
    }
}

/// A connection whose every byte comes back.
pub(super) struct Echo {
    stream: TcpStream,
}

impl Echo {
    /// Opens one and says a word over it: what accepts may not be what answers.
    pub(super) async fn open(dialer: &Dialer, host: &str) -> Result<Self, String> {
        Self::open_within(ANSWER_LIMIT, dialer, host).await
    }

    /// The same where it may take longer, since there are many.
    pub(super) async fn open_within(
        limit: Duration,
        dialer: &Dialer,
        host: &str,
    ) -> Result<Self, String> {
        let opened = async {
            let mut stream = dialer
                .tcp(host, ECHO_PORT)
                .await
                .map_err(|error| error.to_string())?;
            let sent = stream.write_all(b"echo\n").await;
            sent.map_err(|error| error.to_string())?;
            let mut echo = Self { stream };
            echo.say_within(limit, b"hello").await?;
            Ok(echo)
        };
        let opened = timeout(limit, opened).await;
        opened.map_err(|_elapsed| format!("it did not open within {} s", limit.as_secs()))?
    }

    /// Sends bytes and takes the same back.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.say_within(ANSWER_LIMIT, bytes).await
    }

    /// The same where it may take longer, since there are many.
    pub(super) async fn say_within(&mut self, limit: Duration, bytes: &[u8]) -> Result<(), String> {
        let mut back = vec![0; bytes.len()];
        let said = async {
            self.stream.write_all(bytes).await?;
            self.stream.read_exact(&mut back).await
        };
        match timeout(limit, said).await {
            Ok(Ok(_)) if back == bytes => Ok(()),
            Ok(Ok(_)) => Err("other bytes came back".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }
}
