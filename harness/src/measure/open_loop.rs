//! The open loop: requests leave at fixed times, whatever the answers do. For latency.
//!
//! A latency counts from the *intended* time of sending, so a target that stalls is charged for every
//! request that should have been sent meanwhile (G. Tene, "How NOT to measure latency": coordinated
//! omission). The raw time from the actual sending is kept beside it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{
    Errors, Histogram, Load, OpError, Pacer, REOPEN_DELAY, Session, ThreadWork, WarmUp,
    open_sessions,
};
use crate::clock::{self, Instant};

/// The share of the asked rate below which a cell says nothing about latency.
pub(super) const CARRIED: f64 = 0.99;

/// How long answers may come in after the last request was due.
const GRACE: Duration = Duration::from_millis(500);

/// How an open loop is run.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    /// Operations each second, over all sessions.
    pub rate: f64,
    /// Sessions that can be at work at once.
    pub connections: usize,
    /// Requests due in this time first are sent and not counted.
    pub warm_up: WarmUp,
    /// Requests due in this time are counted.
    pub window: Duration,
}

/// What an open loop counted.
#[derive(Debug, Default)]
pub struct OpenTally {
    /// Requests that were due in the window.
    pub asked: u64,
    /// Of these, answered rightly by the window's end or a tenth of it later.
    pub answered: u64,
    /// Of these, failed.
    pub errors: Errors,
    /// Time from the intended sending to the answer.
    pub corrected: Histogram,
    /// Time from the actual sending to the answer.
    pub raw: Histogram,
    /// The corrected times of each class of operation.
    pub classes: Vec<Histogram>,
    /// How late the schedule itself woke up: the generator's own share.
    pub lateness: Histogram,
    /// The share of the whole time, warm-up and window, in which this thread was at work, 0 to 1.
    pub busy: f64,
}

impl OpenTally {
    /// The share of the asked rate that was carried, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn carried(&self) -> f64 {
        if self.asked == 0 {
            0.0
        } else {
            self.answered as f64 / self.asked as f64
        }
    }
}

/// Runs `load` as an open loop. Must run inside [`on_this_thread`](super::on_this_thread).
///
/// # Errors
/// Where the sessions could not be opened, or the system gives no timer.
pub async fn open_loop<L: Load>(load: Rc<L>, plan: OpenLoop) -> Result<OpenTally, OpError> {
    let sessions = open_sessions(&load, plan.connections).await?;
    let begin = clock::now() + Duration::from_millis(1);
    let schedule = Schedule {
        begin,
        interval: Duration::from_secs_f64(1.0 / plan.rate),
        counted_from: begin + plan.warm_up.longest(),
        end: begin + plan.warm_up.longest() + plan.window,
        patience: plan.window / 10,
    };
    let shared = Rc::new(Shared::new(schedule));
    let workers: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::task::spawn_local(work(load.clone(), session, shared.clone())))
        .collect();

    let work = ThreadWork::start();
    dispatch(&shared).await?;
    let busy = work.share();
    shared.over.set(true);
    shared.wake.notify_waiters();
    let all = futures_util::future::join_all(workers);
    if let Ok(ended) = tokio::time::timeout(GRACE, all).await {
        ended
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|panicked| OpError(panicked.to_string()))?;
    }
    let mut tally = shared.tally.take();
    tally.busy = busy;
    Ok(tally)
}

/// When requests are due, and which of them count.
#[derive(Clone, Copy)]
struct Schedule {
    begin: Instant,
    interval: Duration,
    counted_from: Instant,
    end: Instant,
    patience: Duration,
}

/// What the schedule and the sessions share; they all live on one thread.
struct Shared {
    schedule: Schedule,
    due: RefCell<VecDeque<Instant>>,
    wake: Notify,
    over: Cell<bool>,
    tally: RefCell<OpenTally>,
}

impl Shared {
    fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            due: RefCell::default(),
            wake: Notify::new(),
            over: Cell::new(false),
            tally: RefCell::default(),
        }
    }

    /// The next request that is due; `None` once the loop is over and none is left.
    async fn next_due(&self) -> Option<Instant> {
        loop {
            let woken = self.wake.notified();
            if let Some(due) = self.due.borrow_mut().pop_front() {
                return Some(due);
            }
            if self.over.get() {
                return None;
            }
            woken.await;
        }
    }
}

/// Makes requests due, each at its time; where it wakes late, the time stays the intended one.
async fn dispatch(shared: &Shared) -> Result<(), OpError> {
    let Schedule {
        begin,
        interval,
        counted_from,
        end,
        ..
    } = shared.schedule;
    let mut pacer = Pacer::new()?;
    let mut due = begin;
    while due < end {
        pacer.until(due).await?;
        if due >= counted_from {
            let mut tally = shared.tally.borrow_mut();
            tally.asked += 1;
            tally
                .lateness
                .record(clock::now().saturating_duration_since(due));
        }
        shared.due.borrow_mut().push_back(due);
        shared.wake.notify_one();
        due += interval;
        // A schedule that lags must not keep the sessions from running.
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

async fn work<L: Load>(load: Rc<L>, mut session: L::Session, shared: Rc<Shared>) {
    let Schedule {
        counted_from,
        end,
        patience,
        ..
    } = shared.schedule;
    while let Some(due) = shared.next_due().await {
        let sent = clock::now();
        let outcome = session.run().await;
        let answered = clock::now();
        let failed = outcome.is_err();
        if due >= counted_from {
            let mut tally = shared.tally.borrow_mut();
            match outcome {
                Ok(op) => {
                    tally.answered += u64::from(answered <= end + patience);
                    tally.corrected.record(answered - due);
                    tally.raw.record(answered - sent);
                    if tally.classes.len() <= op.class {
                        tally.classes.resize_with(op.class + 1, Histogram::default);
                    }
                    tally.classes[op.class].record(answered - due);
                }
                Err(error) => tally.errors.add(&error),
            }
        }
        if failed {
            tokio::time::sleep(REOPEN_DELAY).await;
            match load.open().await {
                Ok(opened) => session = opened,
                Err(error) => {
                    shared.tally.borrow_mut().errors.add(&error);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Op, on_this_thread};
    use super::*;

    /// Answers after `takes`, but stalls once for `stall`.
    struct Staller {
        takes: Duration,
        stall: Cell<Option<Duration>>,
    }

    struct Stalls(Rc<Staller>);

    struct Load1(Rc<Staller>);

    impl Load for Load1 {
        type Session = Stalls;

        async fn open(&self) -> Result<Stalls, OpError> {
            Ok(Stalls(self.0.clone()))
        }
    }

    impl Session for Stalls {
        async fn run(&mut self) -> Result<Op, OpError> {
            tokio::time::sleep(self.0.stall.take().unwrap_or(self.0.takes)).await;
            Ok(Op::default())
        }
    }

    fn run(rate: f64, takes_ms: u64, stall_ms: Option<u64>) -> OpenTally {
        let staller = Staller {
            takes: Duration::from_millis(takes_ms),
            stall: Cell::new(stall_ms.map(Duration::from_millis)),
        };
        let plan = OpenLoop {
            rate,
            connections: 1,
            warm_up: WarmUp::Whole(Duration::ZERO),
            window: Duration::from_millis(400),
        };
        on_this_thread(open_loop(Rc::new(Load1(Rc::new(staller))), plan)).unwrap()
    }

    #[test]
    fn a_stall_is_charged_to_every_request_it_delayed() {
        let tally = run(100.0, 1, Some(200));
        let corrected = tally.corrected.percentile_us(0.5).unwrap();
        let raw = tally.raw.percentile_us(0.5).unwrap();
        assert!(
            raw < 20_000.0,
            "only one request was slow by itself: {raw} µs"
        );
        assert!(
            corrected > 20_000.0,
            "half of the requests waited for it: {corrected} µs"
        );
    }

    #[test]
    fn a_rate_that_is_not_carried_shows() {
        let tally = run(1000.0, 10, None);
        assert_eq!(tally.asked, 400);
        assert!(tally.carried() < 0.5, "{}", tally.carried());
    }

    #[test]
    fn a_rate_that_is_carried_shows_too() {
        let tally = run(50.0, 1, None);
        assert!(tally.carried() > CARRIED, "{}", tally.carried());
        assert_eq!(tally.asked, 20);
    }
}
