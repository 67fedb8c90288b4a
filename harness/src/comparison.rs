//! Two runs side by side: what changed from the one to the other, and whether it is a regression.
//!
//! Pure functions of result files. A change is judged over blocks: what a method does in a block is taken as a ratio to
//! `direct` of the same block, so that a machine that is slower tonight moves neither run's figures.

use serde::{Deserialize, Serialize};

use crate::expected::Outcome;
use crate::ids::MethodId;
use crate::run::Unit;

/// What was found between two runs. Everything that a report needs; nothing is computed from it any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The run that the other is held against.
    pub baseline: Named,
    /// The run that is judged.
    pub candidate: Named,
    /// Every cell, in report order.
    pub changes: Vec<Change>,
    /// Required probes that came out otherwise than in the baseline.
    pub verdicts: Vec<VerdictChange>,
    /// All of it in one word.
    pub decision: Decision,
    /// Why, a sentence for each reason; none where it is a pass.
    pub reasons: Vec<String>,
}

/// A run, for a heading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// When it began, UTC.
    pub started_at: jiff::Timestamp,
    /// How it was measured.
    pub profile: String,
}

/// All of a comparison in one word, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// A blocking cell is worse.
    Regressed,
    /// A required probe came out otherwise.
    VerdictChanged,
    /// It cannot be said: cells are missing, or too unclear to rule out a regression.
    Inconclusive,
    /// Nothing is worse.
    Pass,
}

/// One method, scenario and metric in both runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The method.
    pub method: MethodId,
    /// The scenario.
    pub scenario: String,
    /// The metric.
    pub metric: String,
    /// The unit of both medians.
    pub unit: Unit,
    /// Whether a regression here is one of the whole.
    pub weight: Weight,
    /// In the baseline; absent where it was not measured there.
    pub baseline: Option<Side>,
    /// In the candidate; absent where it was not measured there.
    pub candidate: Option<Side>,
    /// By how much it became worse; absent where one side is, or has too few blocks.
    pub worsening: Option<Worsening>,
    /// What that comes to.
    pub found: Found,
    /// Why it is found to be that, where there is more to say than the figures do.
    pub note: Option<String>,
}

/// What one run has for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Median over blocks, in the cell's unit.
    pub median: f64,
    /// Geometric mean of the ratios to `direct` of the same block; absent where `direct` was not run.
    pub ratio_to_direct: Option<f64>,
    /// Valid blocks.
    pub blocks: u32,
}

/// By how much a figure became worse: as a factor, above 1 is worse whichever direction of the unit is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Worsening {
    /// The estimate (Hodges–Lehmann, of the logarithms).
    pub estimate: f64,
    /// The lower end of the 95% interval (Welch's t, of the logarithms).
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How likely so much or more would be with no change at all: one-sided, Welch's t.
    pub p: f64,
    /// The same, corrected for the number of cells: Holm's for blocking cells, Benjamini and Hochberg's for the others.
    pub adjusted: f64,
    /// The smallest true factor that would be found here in four of five such comparisons.
    pub detectable: f64,
}

/// Whether a regression of a cell is one of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// It is.
    Blocking,
    /// It is shown.
    Advisory,
}

/// What a change comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Worse, by more than the floors and more than chance.
    Worse,
    /// Worse, and somebody has said that it may be.
    Acknowledged,
    /// Worse in the first measurement and not in the second.
    NotConfirmed,
    /// Better, likewise.
    Better,
    /// Too wide an interval to rule a regression out.
    Unclear,
    /// Not measured in one of the runs.
    Missing,
    /// No more than chance or the floors.
    Same,
}

/// A required probe that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictChange {
    /// The probe.
    pub probe: String,
    /// The method.
    pub method: MethodId,
    /// As it was; absent where it was not asked.
    pub baseline: Option<Outcome>,
    /// As it is; absent where it was not asked.
    pub candidate: Option<Outcome>,
    /// What was seen this time.
    pub seen: String,
    /// Who has said that it may be, and until when.
    pub acknowledged: Option<String>,
}
