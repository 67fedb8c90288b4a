//! How much of its time a load's thread is at work.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::clock::Stopwatch;

/// The work of the thread that started it, from then on.
pub(super) struct ThreadWork {
    before: Duration,
    time: Stopwatch,
}

impl ThreadWork {
    pub(super) fn start() -> Self {
        Self {
            before: so_far(),
            time: Stopwatch::start(),
        }
    }

    /// The share of the time since then, 0 to 1. To be asked on the same thread.
    pub(super) fn share(&self) -> f64 {
        let work = so_far().saturating_sub(self.before);
        let elapsed = self.time.elapsed().as_secs_f64();
        if elapsed > 0.0 {
            (work.as_secs_f64() / elapsed).min(1.0)
        } else {
            0.0
        }
    }
}

/// The processor time of this thread; zero where the kernel has no such clock.
fn so_far() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_thread_that_spins_is_at_work_and_one_that_waits_is_not() {
        let spinning = ThreadWork::start();
        let since = clock::now();
        while since.elapsed() < Duration::from_millis(40) {
            std::hint::spin_loop();
        }
        // Others may have had the processor meanwhile.
        let spun = spinning.share();
        let waiting = ThreadWork::start();
        let (_open, nothing) = std::sync::mpsc::channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(40));
        let waited = waiting.share();
        assert!(
            spun > 0.2 && waited < 0.1 && waited < spun,
            "{spun} {waited}"
        );
    }
}
