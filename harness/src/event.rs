//! The border between running and showing: what happens in a run, as it happens.

use std::time::Duration;

use crate::ids::MethodId;
use crate::run::{Measurement, ProbeResult, Warning};

/// Something happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A phase begins.
    Phase(&'a str),
    /// The time that the rest of the run will take, about, and the time it all takes.
    Progress {
        /// What is over.
        done: Duration,
        /// All of it.
        total: Duration,
    },
    /// These methods can run from here; why the others cannot has been told.
    Able(&'a [MethodId]),
    /// A method can be used.
    Connected {
        /// Which.
        method: &'a MethodId,
        /// From the first object applied until the first answer.
        setup: Duration,
    },
    /// A probe has an answer.
    Probed(&'a ProbeResult),
    /// A load of a cell is over.
    Measured {
        /// The method.
        method: &'a MethodId,
        /// The scenario.
        scenario: &'a str,
        /// What was measured.
        load: &'a str,
        /// The block, from 0.
        block: u32,
        /// The figures.
        measurements: &'a [Measurement],
    },
    /// A reader must know this.
    Warned(&'a Warning),
}

/// Someone who wants to know.
pub trait Observer: Send + Sync {
    /// Takes note. Must not block for long: measuring waits for it.
    fn on(&self, event: &Event<'_>);
}
