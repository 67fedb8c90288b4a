//! Waking up at an exact time.
//!
//! The runtime's own timer has a granularity of one millisecond, far too coarse to send thousands of
//! requests a second at fixed times. A timerfd is a high-resolution kernel timer behind a descriptor.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock::{self, Instant};

/// A timer for one waiter.
#[derive(Debug)]
pub struct Pacer(AsyncFd<Timer>);

#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Pacer {
    /// A timer on the current runtime.
    ///
    /// # Errors
    /// Where the system gives no more descriptors.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        #[expect(unsafe_code, reason = "registering a descriptor has no safe form")]
        // SAFETY: `Timer` owns the descriptor, never exchanges it, and lives as long as the `AsyncFd`.
        let registered =
            unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Returns at `deadline`, or at once where it has passed.
    ///
    /// # Errors
    /// Of the timer, which has none in ordinary use.
    pub async fn until(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(clock::now());
        if left < Duration::from_nanos(1) {
            return Ok(());
        }
        self.0.get_ref().0.set(
            Expiration::OneShot(TimeSpec::from_duration(left)),
            TimerSetTimeFlags::empty(),
        )?;
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from)) {
                Ok(outcome) => return outcome,
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_never_wakes_early_and_the_past_is_now() {
        let mut pacer = Pacer::new().unwrap();
        for micros in [200, 50, 1000] {
            let deadline = clock::now() + Duration::from_micros(micros);
            pacer.until(deadline).await.unwrap();
            assert!(clock::now() >= deadline);
        }
        pacer
            .until(clock::now() - Duration::from_secs(1))
            .await
            .unwrap();
    }
}
