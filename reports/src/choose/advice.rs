//! The answer, as data: what `inroads choose --json` prints.

use inroads_harness::comparison::Named;
use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{ClusterInfo, Status, Unit};
use serde::Serialize;

use super::team::Matters;

/// Which method for a team.
#[derive(Debug, Clone, Serialize)]
pub struct Advice {
    /// The team's name; empty where it has none.
    pub team: String,
    /// The run that it rests on; absent where nothing was measured.
    pub run: Option<Basis>,
    /// What decided between methods that take equally few changes.
    pub matters: Matters,
    /// The methods, best first.
    pub ranking: Vec<Ranked>,
    /// What a reader must know of the whole: what was not measured, or on what.
    pub notes: Vec<String>,
}

/// The run that an answer rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Basis {
    /// Its id, when it began, how it was measured.
    #[serde(flatten)]
    pub named: Named,
    /// Whether all was done.
    pub status: Status,
    /// The cluster.
    pub cluster: ClusterInfo,
    /// The processor's model name.
    pub cpu: String,
    /// Logical processors.
    pub cores: usize,
}

/// A method, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The method.
    pub method: MethodId,
    /// Its name for humans.
    pub title: String,
    /// Whether it fits.
    pub fit: Fit,
    /// What must be done or found out for it to fit; none unless it fits with conditions.
    pub conditions: Vec<Condition>,
    /// Their weights, added up.
    pub weight: u32,
    /// Reasons for it, against it, and what is not known.
    pub reasons: Vec<Reason>,
    /// Why it stands before the next one; absent of the last, and where the next one is ruled out.
    pub ahead: Option<Ahead>,
}

/// Whether a method fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// As the team is.
    Fits,
    /// Under conditions.
    FitsIf,
    /// Not at all.
    RuledOut,
}

/// What must be done or found out for a method to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// A clause behind `if`.
    pub text: String,
    /// What it weighs; only sums are compared.
    pub weight: u32,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Which way it points.
    pub side: Side,
    /// What it is about: something that the team needs, has, or reaches.
    pub about: String,
    /// What it rests on; at least one.
    pub evidence: Vec<Evidence>,
}

/// Which way a reason points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// For the method.
    For,
    /// Against it.
    Against,
    /// Against it, so that nothing else counts.
    RulesOut,
    /// Neither: it is not known.
    Open,
}

/// What a reason rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// A probe of the run.
    Probe {
        /// Its id.
        id: String,
        /// How it came out; absent where it is not in the run.
        outcome: Option<Outcome>,
        /// What of it counts here: why it cannot by design, why it was not tried, what was seen instead, or the seconds without an
        /// answer.
        detail: Option<String>,
    },
    /// A figure of the run.
    Figure {
        /// The scenario.
        scenario: String,
        /// The metric.
        metric: String,
        /// The unit of the median.
        unit: Option<Unit>,
        /// Median over blocks; absent where it was not measured.
        median: Option<f64>,
        /// Geometric mean of the ratios to `direct`; absent without `direct`.
        ratio_to_direct: Option<f64>,
        /// The best of the methods that the run can tell from this one; absent where none is better.
        behind: Option<MethodId>,
    },
    /// How many required probes of transparency pass unmodified.
    Unmodified {
        /// So many do.
        passed: usize,
        /// Of so many.
        of: usize,
    },
    /// What the team says.
    Said {
        /// A clause.
        text: String,
    },
    /// Something that the method declares to need, or to carry.
    Declared {
        /// Its words.
        text: String,
    },
    /// No probe can tell, and why.
    NotMeasured {
        /// Why not.
        why: String,
    },
}

/// Why a method stands before the next one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Ahead {
    /// It fits, and the next one only under conditions.
    Fit,
    /// Its conditions weigh less.
    Conditions {
        /// What its own weigh.
        weight: u32,
        /// What those of the next one do.
        next: u32,
    },
    /// It is better at what matters, by more than noise.
    Figure {
        /// Its own figure, with what it is of.
        own: String,
        /// That of the next one.
        next: String,
    },
    /// The article's order, since what matters tells them not apart.
    Order {
        /// Both figures, where there are any.
        within_noise: Option<(String, String)>,
    },
}
