//! What the renderers are given in tests.

use inroads_harness::comparison::Comparison;
use inroads_harness::run::Run;

/// A run with every kind of verdict and cell.
pub(crate) fn sample() -> Run {
    inroads_reports::read(include_str!("../sample-run.json")).expect("the sample is a result file")
}

/// A comparison with every kind of change.
pub(crate) fn against() -> Comparison {
    serde_json::from_str(include_str!("../sample-comparison.json"))
        .expect("the sample is a comparison")
}
