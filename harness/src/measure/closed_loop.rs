//! The closed loop: every session asks again as soon as it has its answer. For throughput.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::{
    Errors, Histogram, Load, Op, OpError, REOPEN_DELAY, Session, ThreadWork, WarmUp, open_sessions,
};
use crate::clock::{self, Instant};

/// Longest time for what is under way at the end of the window.
const GRACE: Duration = Duration::from_secs(3);

/// How a closed loop is run.
#[derive(Debug, Clone, Copy)]
pub struct ClosedLoop {
    /// Sessions at work at once.
    pub connections: usize,
    /// How long to warm up.
    pub warm_up: WarmUp,
    /// Operations that start within this time are counted.
    pub window: Duration,
}

/// What a closed loop counted.
#[derive(Debug, Default)]
pub struct ClosedTally {
    /// From the window's start to the last counted answer.
    pub elapsed: Duration,
    /// Operations that were answered rightly.
    pub ops: u64,
    /// Payload they moved, in bytes.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: Errors,
    /// Time for each operation. The loop slows down with its target, so this is no latency under load.
    pub total: Histogram,
    /// Time to connect, where operations connect.
    pub connect: Histogram,
    /// Time to the first byte, where operations look at it.
    pub first_byte: Histogram,
    /// By how much the rate of the window's second half differs from that of the first, as a share of
    /// their mean; absent where too few operations ended to tell.
    pub drift: Option<f64>,
    /// Whether the rate held still before the window.
    pub held_still: bool,
    /// The share of the window in which this thread was at work, 0 to 1.
    pub busy: f64,
}

/// Runs `load` as a closed loop. Must run inside [`on_this_thread`](super::on_this_thread).
///
/// # Errors
/// Where the sessions could not be opened.
pub async fn closed_loop<L: Load>(load: Rc<L>, plan: ClosedLoop) -> Result<ClosedTally, OpError> {
    let sessions = open_sessions(&load, plan.connections).await?;
    let shared = Rc::new(Shared::default());
    let workers: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::task::spawn_local(work(load.clone(), session, shared.clone())))
        .collect();

    let held_still = warm_up(&shared.done, plan.warm_up).await;
    let start = clock::now();
    let work = ThreadWork::start();
    shared.phase.set(Phase::Counting);
    let first_half = rate_during(&shared.done, plan.window / 2).await;
    let second_half = rate_during(&shared.done, plan.window / 2).await;
    shared.phase.set(Phase::Over);
    let busy = work.share();
    let given_up = tokio::time::Instant::now() + GRACE;
    for mut worker in workers {
        match tokio::time::timeout_at(given_up, &mut worker).await {
            Ok(ended) => ended.map_err(|panicked| OpError(panicked.to_string()))?,
            // What hangs must neither hold the run nor pass for nothing.
            Err(_elapsed) => {
                worker.abort();
                let late = OpError(format!(
                    "no answer within {} s after the window",
                    GRACE.as_secs()
                ));
                shared.tally.borrow_mut().errors.add(&late);
            }
        }
    }

    let mut tally = shared.tally.take();
    tally.drift = drift(first_half, second_half);
    tally.held_still = held_still;
    tally.busy = busy;
    tally.elapsed = shared.last.get().map_or(plan.window, |last| last - start);
    Ok(tally)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    WarmingUp,
    Counting,
    Over,
}

/// What the sessions share; they all live on one thread.
#[derive(Default)]
struct Shared {
    phase: Cell<Phase>,
    done: Cell<u64>,
    last: Cell<Option<Instant>>,
    tally: RefCell<ClosedTally>,
}

impl Shared {
    fn count(&self, outcome: &Result<Op, OpError>, started: Instant, ended: Instant) {
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Ok(op) => {
                tally.ops += 1;
                tally.bytes += op.bytes;
                tally.total.record(ended - started);
                if let Some(connect) = op.connect {
                    tally.connect.record(connect);
                }
                if let Some(first_byte) = op.first_byte {
                    tally.first_byte.record(first_byte);
                }
            }
            Err(error) => tally.errors.add(error),
        }
        self.last.set(Some(ended));
    }
}

async fn work<L: Load>(load: Rc<L>, mut session: L::Session, shared: Rc<Shared>) {
    while shared.phase.get() != Phase::Over {
        let counted = shared.phase.get() == Phase::Counting;
        let started = clock::now();
        let outcome = session.run().await;
        let ended = clock::now();
        shared.done.set(shared.done.get() + 1);
        if counted {
            shared.count(&outcome, started, ended);
        }
        if outcome.is_err() {
            match reopen(&load, &shared).await {
                Some(opened) => session = opened,
                None => return,
            }
        }
    }
}

/// A new session in the place of a failed one; `None` where the load ends first.
async fn reopen<L: Load>(load: &Rc<L>, shared: &Shared) -> Option<L::Session> {
    while shared.phase.get() != Phase::Over {
        tokio::time::sleep(REOPEN_DELAY).await;
        match load.open().await {
            Ok(session) => return Some(session),
            Err(error) if shared.phase.get() == Phase::Counting => {
                shared.tally.borrow_mut().errors.add(&error);
            }
            Err(_) => {}
        }
    }
    None
}

/// Operations that ended during a time, and how long it really took.
async fn rate_during(done: &Cell<u64>, time: Duration) -> (u64, Duration) {
    let (before, start) = (done.get(), clock::now());
    tokio::time::sleep(time).await;
    (done.get() - before, start.elapsed())
}

/// See [`ClosedTally::drift`].
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn drift(first: (u64, Duration), second: (u64, Duration)) -> Option<f64> {
    const ENOUGH: u64 = 100;
    if first.0 + second.0 < ENOUGH {
        return None;
    }
    let rate = |(count, time): (u64, Duration)| count as f64 / time.as_secs_f64();
    let (first, second) = (rate(first), rate(second));
    Some((second - first).abs() / f64::midpoint(first, second))
}

/// Waits until the rate holds still, or for the whole time, and says whether it did: three slices in a row within 10% of their mean, each
/// with enough operations to tell. Whether it then holds still is seen in the window itself.
async fn warm_up(done: &Cell<u64>, plan: WarmUp) -> bool {
    let limit = match plan {
        WarmUp::UpTo(limit) => limit,
        WarmUp::Whole(time) => {
            tokio::time::sleep(time).await;
            return true;
        }
    };
    const SLICES: u32 = 10;
    const ENOUGH: u64 = 20;
    let mut slices = Vec::new();
    let mut before = done.get();
    for _ in 0..SLICES {
        tokio::time::sleep(limit / SLICES).await;
        slices.push(done.get() - before);
        before = done.get();
        if let [.., a, b, c] = slices[..] {
            let mean = (a + b + c) / 3;
            if mean >= ENOUGH
                && [a, b, c]
                    .iter()
                    .all(|slice| slice.abs_diff(mean) * 10 <= mean)
            {
                return true;
            }
        }
    }
    // Of a few operations nothing can be said, and that is said elsewhere.
    slices.iter().rev().take(3).sum::<u64>() < 3 * ENOUGH
}

#[cfg(test)]
mod tests {
    use super::super::on_this_thread;
    use super::*;

    struct Sleeper {
        takes: Duration,
        fails_every: Option<u64>,
        runs: Rc<Cell<u64>>,
    }

    struct Nap {
        takes: Duration,
        fails_every: Option<u64>,
        runs: Rc<Cell<u64>>,
    }

    impl Load for Sleeper {
        type Session = Nap;

        async fn open(&self) -> Result<Nap, OpError> {
            Ok(Nap {
                takes: self.takes,
                fails_every: self.fails_every,
                runs: self.runs.clone(),
            })
        }
    }

    impl Session for Nap {
        async fn run(&mut self) -> Result<Op, OpError> {
            tokio::time::sleep(self.takes).await;
            self.runs.set(self.runs.get() + 1);
            match self.fails_every {
                Some(n) if self.runs.get().is_multiple_of(n) => {
                    Err(OpError("asked to fail".into()))
                }
                _ => Ok(Op {
                    bytes: 10,
                    ..Op::default()
                }),
            }
        }
    }

    #[test]
    fn an_operation_that_hangs_is_an_error_and_does_not_hold_the_run() {
        let load = Rc::new(Sleeper {
            takes: Duration::from_secs(60),
            fails_every: None,
            runs: Rc::default(),
        });
        let begun = clock::now();
        let tally = on_this_thread(closed_loop(load, PLAN)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(6));
        assert_eq!((tally.ops, tally.errors.count), (0, 4));
    }

    const PLAN: ClosedLoop = ClosedLoop {
        connections: 4,
        warm_up: WarmUp::UpTo(Duration::from_millis(50)),
        window: Duration::from_millis(200),
    };

    fn sleeper(fails_every: Option<u64>) -> Rc<Sleeper> {
        Rc::new(Sleeper {
            takes: Duration::from_millis(5),
            fails_every,
            runs: Rc::default(),
        })
    }

    #[test]
    fn the_warm_up_is_not_counted() {
        let load = sleeper(None);
        let runs = load.runs.clone();
        let tally = on_this_thread(closed_loop(load, PLAN)).unwrap();
        assert!(
            tally.ops > 0 && tally.ops < runs.get(),
            "{} of {}",
            tally.ops,
            runs.get()
        );
        assert_eq!(tally.bytes, tally.ops * 10);
        assert!(tally.elapsed >= PLAN.window);
    }

    #[test]
    fn drift_is_a_share_of_the_mean_and_needs_enough_to_tell() {
        let second = Duration::from_secs(1);
        assert_eq!(drift((100, second), (100, second)), Some(0.0));
        let halved = drift((300, second), (100, second)).unwrap();
        assert!((halved - 1.0).abs() < 1e-9, "{halved}");
        // A half that took longer is not a faster one.
        assert_eq!(drift((200, second * 2), (100, second)), Some(0.0));
        assert_eq!(drift((60, second), (20, second)), None);
    }

    #[test]
    fn a_failed_operation_is_an_error_and_not_an_operation() {
        let tally = on_this_thread(closed_loop(sleeper(Some(3)), PLAN)).unwrap();
        assert!(tally.errors.count > 0 && tally.ops > 0);
        assert_eq!(tally.errors.first.as_deref(), Some("asked to fail"));
        assert_eq!(tally.total.len(), tally.ops);
    }
}
