//! What a run has seen of a method, as rules ask for it.

use inroads_harness::access::Effort;
use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{ProbeResult, Run, Verdict};

use super::advice::Evidence;
use super::needs::OVERLAP;
use crate::matrix::find;

/// One method's part of a run; of none, nothing was asked.
pub(super) struct Seen<'a> {
    pub(super) run: Option<&'a Run>,
    pub(super) method: &'a MethodId,
}

/// What several probes come to together: the worst of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Together {
    /// All pass, with this effort at most.
    Pass(Effort),
    /// One at least was not asked, and the others pass.
    Unmeasured,
    /// One at least is wrong, or cannot be.
    Bad,
}

impl Seen<'_> {
    fn result(&self, id: &str) -> Option<&ProbeResult> {
        self.run.and_then(|run| find(run, id, self.method))
    }

    /// What these probes come to; nothing is known of none.
    pub(super) fn together(&self, ids: &[&str]) -> Together {
        let each = ids.iter().map(|id| {
            match self
                .result(id)
                .map_or(Outcome::NotRun, ProbeResult::outcome)
            {
                Outcome::Unmodified => Together::Pass(Effort::Unmodified),
                Outcome::Configured => Together::Pass(Effort::Configured),
                Outcome::Rewritten => Together::Pass(Effort::Rewritten),
                Outcome::Fail | Outcome::Unsupported => Together::Bad,
                Outcome::NotRun => Together::Unmeasured,
            }
        });
        each.max().unwrap_or(Together::Unmeasured)
    }

    /// These probes, as evidence.
    pub(super) fn probes(&self, ids: &[&str]) -> Vec<Evidence> {
        ids.iter().map(|id| self.probe(id)).collect()
    }

    /// A probe, as evidence.
    pub(super) fn probe(&self, id: &str) -> Evidence {
        let result = self.result(id);
        Evidence::Probe {
            id: id.to_owned(),
            outcome: result.map(ProbeResult::outcome),
            detail: result.and_then(|it| match it.verdict {
                Verdict::Fail => Some(last_attempt(&it.seen).to_owned()),
                // It passes where an overlap is refused, too: which of the two it was counts.
                Verdict::Pass if id == OVERLAP => Some(it.seen.clone()),
                _ => it.reason.clone(),
            }),
        }
    }

    /// The seconds without an answer that a probe of restarts has seen, in the attempt that it passed with: the last
    /// one. They stand in its evidence only, as the probe writes it.
    pub(super) fn silent_seconds(&self, id: &str) -> Option<f64> {
        let seen = &self.result(id)?.seen;
        let (before, _) = seen.rsplit_once(" s without an answer")?;
        let seconds: f64 = before.rsplit(' ').next()?.parse().ok()?;
        seconds.is_finite().then_some(seconds)
    }
}

/// What a probe has seen in its last attempt, the one with the most effort.
fn last_attempt(seen: &str) -> &str {
    let efforts = [Effort::Rewritten, Effort::Configured, Effort::Unmodified];
    let mut last = efforts
        .iter()
        .filter_map(|effort| seen.rsplit_once(&format!("{effort}: ")));
    last.next().map_or(seen, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_attempts_the_last_counts() {
        let seen = "unmodified: no answer: at all; configured: the proxy says: Connection refused";
        assert_eq!(last_attempt(seen), "the proxy says: Connection refused");
        assert_eq!(last_attempt("nothing changed"), "nothing changed");
    }

    #[test]
    fn several_probes_are_as_good_as_the_worst() {
        let pass = Together::Pass(Effort::Rewritten);
        assert!(Together::Pass(Effort::Unmodified) < pass);
        assert!(pass < Together::Unmeasured && Together::Unmeasured < Together::Bad);
    }
}
