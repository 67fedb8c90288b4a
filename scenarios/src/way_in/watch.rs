//! Watching a Service go and come back: new connections all the time, and one that is kept.

use std::time::Duration;

use inroads_harness::clock::{self, Instant};
use inroads_harness::dial::Dialer;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{MORTAL, STEADY, address};
use crate::http;

/// The pause between requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(1);

/// Longest time until the first answer.
const FIRST: Duration = Duration::from_secs(3);

/// How long a restart is waited for, where no request fails.
const QUIET: Duration = Duration::from_secs(10);

/// Longest time without an answer. What comes back later would not be waited for; until then it comes back by itself,
/// however long that takes, and how long it took is told.
const OUTAGE: Duration = Duration::from_secs(100);

/// How many answers in a row show that all is well again.
const STEADILY: usize = 10;

/// A Service with one pod, which is replaced.
pub(super) async fn pod_replaced(dialer: &Dialer, workload: &Workload) -> Attempt {
    const EXPECTED: &str =
        "another pod answers soon after the first has gone, with nothing done by the user";
    watch(EXPECTED, dialer, workload, MORTAL, |seen| {
        seen.names.len() > 1
    })
    .await
}

/// A Service that stays, while what carries the way in is restarted.
pub(super) async fn gateway_restart(dialer: &Dialer, workload: &Workload) -> Attempt {
    const EXPECTED: &str =
        "after an interruption there are answers again, with nothing done by the user";
    watch(EXPECTED, dialer, workload, STEADY, |seen| {
        seen.failed > 0 || seen.began.elapsed() > QUIET
    })
    .await
}

/// What has been seen so far.
struct Seen {
    began: Instant,
    /// Who answered, in order.
    names: Vec<String>,
    answered: usize,
    failed: usize,
    /// Answers since the last failure, or since another pod answers.
    in_a_row: usize,
    /// When the last answer before a failure came, and what the first failure said.
    last_answer: Instant,
    first_failure: Option<(Instant, String)>,
    /// The longest time between two answers.
    outage: Duration,
}

/// Asks all the time until the `change` has been seen and answers come steadily, or they do not come again.
async fn watch(
    expected: &str,
    dialer: &Dialer,
    workload: &Workload,
    service: &str,
    change: impl Fn(&Seen) -> bool,
) -> Attempt {
    let (host, port) = match address(workload, service) {
        Ok(address) => address,
        Err(error) => return Attempt::fail(expected, error),
    };
    let first = timeout(FIRST, http::asked_name(dialer, &host, port)).await;
    let name = match first {
        Ok(Ok(name)) => name,
        Ok(Err(error)) => return Attempt::fail(expected, format!("no answer at all: {error}")),
        Err(_elapsed) => {
            let text = format!("no answer at all within {} s", FIRST.as_secs());
            return Attempt::fail(expected, text);
        }
    };
    let kept = keep(dialer.clone(), host.clone(), port);
    let now = clock::now();
    let mut seen = Seen {
        began: now,
        names: vec![name],
        answered: 1,
        failed: 0,
        in_a_row: 1,
        last_answer: now,
        first_failure: None,
        outage: Duration::ZERO,
    };
    while !(change(&seen) && seen.in_a_row >= STEADILY) {
        if seen.last_answer.elapsed() > OUTAGE {
            let text = format!(
                "no answer again within {} s: {}",
                OUTAGE.as_secs(),
                seen.told()
            );
            return Attempt::fail(expected, text);
        }
        let asked = timeout(LIMIT, http::asked_name(dialer, &host, port)).await;
        seen.take(
            asked.unwrap_or_else(|_elapsed| Err(format!("no answer within {} s", LIMIT.as_secs()))),
        );
        sleep(PAUSE).await;
    }
    Attempt::pass(
        expected,
        format!("{}; {}", seen.told(), fate(kept, &seen).await),
    )
}

impl Seen {
    fn take(&mut self, answer: Result<String, String>) {
        let now = clock::now();
        match answer {
            Ok(name) => {
                self.answered += 1;
                self.in_a_row += 1;
                self.outage = self.outage.max(now - self.last_answer);
                self.last_answer = now;
                if !self.names.contains(&name) {
                    self.names.push(name);
                    self.in_a_row = 1;
                }
            }
            Err(error) => {
                self.failed += 1;
                self.in_a_row = 0;
                self.first_failure.get_or_insert((now, error));
            }
        }
    }

    fn told(&self) -> String {
        let requests = self.answered + self.failed;
        let names = self.names.join(", then ");
        match &self.first_failure {
            None => format!(
                "{names} answered; none of {requests} requests failed, at most {:.2} s between two answers",
                self.outage.as_secs_f64()
            ),
            Some((when, error)) => format!(
                "{names} answered; {} of {requests} requests failed, first after {:.1} s ({error}); {:.1} s without an answer",
                self.failed,
                (*when - self.began).as_secs_f64(),
                self.outage.as_secs_f64(),
            ),
        }
    }
}

/// A connection that is opened and kept, until it ends: returns when, and how.
fn keep(dialer: Dialer, host: String, port: u16) -> JoinHandle<(Instant, String)> {
    tokio::spawn(async move {
        let mut stream = match dialer.http(&host, port).await {
            Ok(stream) => stream,
            Err(error) => return (clock::now(), format!("was not opened ({error})")),
        };
        let how = match stream.read_u8().await {
            Ok(_) => "was spoken to".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "ended".to_owned(),
            Err(error) => format!("broke ({error})"),
        };
        (clock::now(), how)
    })
}

/// What became of the kept connection, for the evidence.
async fn fate(kept: JoinHandle<(Instant, String)>, seen: &Seen) -> String {
    if !kept.is_finished() {
        kept.abort();
        return "a kept connection is still open".to_owned();
    }
    match kept.await {
        Ok((when, how)) => {
            let after = when.saturating_duration_since(seen.began).as_secs_f64();
            format!("a kept connection {how} after {after:.1} s")
        }
        Err(error) => format!("a kept connection: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use inroads_harness::access::Access;
    use inroads_harness::scenario::ServiceFacts;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What watching the pod of a Service comes to that answers request number `n` with `answers(n)`, or not at all.
    async fn watched(answers: fn(usize) -> Option<&'static str>) -> Attempt {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = AtomicUsize::new(0);
        let serving = async {
            let mut hung = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                let reading = timeout(Duration::from_millis(20), stream.read(&mut request));
                // The kept connection asks nothing.
                if !reading
                    .await
                    .is_ok_and(|read| read.is_ok_and(|length| length > 0))
                {
                    hung.push(stream);
                    continue;
                }
                match answers(asked.fetch_add(1, Ordering::Relaxed)) {
                    Some(bytes) => stream.write_all(bytes.as_bytes()).await.unwrap(),
                    None => hung.push(stream),
                }
            }
        };
        let service = ServiceFacts {
            cluster_ip: Some(address.ip()),
            ports: BTreeMap::from([("http".to_owned(), address.port())]),
            endpoints: Vec::new(),
            external_name: None,
        };
        let workload = Workload {
            services: BTreeMap::from([(MORTAL.to_owned(), service)]),
            ..Workload::default()
        };
        let dialer = Dialer::new(Access::Unmodified);
        tokio::select! {
            attempt = pod_replaced(&dialer, &workload) => attempt,
            () = serving => unreachable!("it serves for ever"),
        }
    }

    const FIRST_POD: Option<&str> = Some("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
    const NEXT_POD: Option<&str> = Some("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb");

    #[tokio::test]
    async fn another_pod_after_some_that_fail_is_a_pass_that_tells_them() {
        let attempt = watched(|n| match n {
            0..3 => FIRST_POD,
            3 => Some("SSH-2.0-x\r\n\r\n"),
            4 => Some("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
            _ => NEXT_POD,
        });
        let attempt = attempt.await;
        let text = attempt.seen.unwrap();
        assert!(text.contains("a, then b answered; 2 of"), "{text}");
        assert!(text.contains("still open"), "{text}");
    }

    #[tokio::test]
    async fn a_service_that_hangs_or_talks_nonsense_fails_soon() {
        for answers in [
            (|_| None) as fn(usize) -> Option<&'static str>,
            |_| Some("\u{0}\u{1}\u{2}"),
            |_| Some("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n"),
        ] {
            let attempt = watched(answers).await;
            let text = attempt.seen.unwrap_err().text().to_owned();
            assert!(text.contains("no answer at all"), "{text}");
        }
    }
}
