//! The one place that reads a clock.
//!
//! Everything else takes an [`Instant`] as an argument or asks here, so that "when" has one meaning in a
//! result file: durations come from `CLOCK_MONOTONIC`, dates from the wall clock in UTC.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the module the ban points to"
)]

use std::time::Duration;

pub use std::time::Instant;

/// The monotonic time now.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The date and time now, in UTC, to the second: what a result file records.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now)
}

/// The date and time now, in UTC, as exact as the machine has it: for logs.
#[must_use]
pub fn wall_precise() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Time since it was started.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
