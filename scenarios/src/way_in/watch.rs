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

/// Longest time without an answer.
const OUTAGE: Duration = Duration::from_secs(30);

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
