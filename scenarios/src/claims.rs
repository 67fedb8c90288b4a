//! What the article of 2019 claims of the four ways in, answered from a run one by one.
//!
//! Each answer rests on verdicts and figures of the run alone. What the run does not show is `not-shown`, with the
//! command that would show it; nothing is answered from memory.

mod answers;
mod seen;

use inroads_harness::run::{Claim, ClaimVerdict, Run};

use answers::ALL;
use seen::Seen;

/// A claim and how it is answered.
struct Question {
    /// Its number in the catalogue.
    id: &'static str,
    /// What the article says.
    claim: &'static str,
    /// The probes the answer rests on.
    probes: &'static [&'static str],
    /// The figures, as `scenario/metric`.
    figures: &'static [&'static str],
    /// The methods that must be in the run, and what else its command takes.
    methods: &'static str,
    /// The answer.
    answer: fn(&Seen<'_>) -> Answer,
}

/// An answer; none where the run does not show enough.
type Answer = Option<(ClaimVerdict, String)>;

/// The claims, answered from `run`.
#[must_use]
pub fn claims(run: &Run) -> Vec<Claim> {
    let seen = Seen(run);
    ALL.iter()
        .map(|question| {
            let (verdict, evidence) = (question.answer)(&seen).unwrap_or_else(|| {
                let lacks = "this run has not asked, or not measured, all that the answer rests on";
                (ClaimVerdict::NotShown, lacks.to_owned())
            });
            Claim {
                id: question.id.to_owned(),
                claim: question.claim.to_owned(),
                verdict,
                evidence,
                probes: question.probes.iter().map(ToString::to_string).collect(),
                figures: question.figures.iter().map(ToString::to_string).collect(),
                redo: redo(question),
            }
        })
        .collect()
}

/// The command that asks again: probes alone where no figure is needed.
fn redo(question: &Question) -> String {
    let Question {
        methods,
        probes,
        figures,
        ..
    } = question;
    if figures.is_empty() {
        let globs: Vec<String> = probes.iter().map(|id| format!("--probe {id}")).collect();
        format!("inroads conform {methods} {}", globs.join(" "))
    } else {
        format!("inroads bench {methods}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_of_the_article_has_one_question() {
        let ids: Vec<String> = ALL.iter().map(|question| question.id.to_owned()).collect();
        let wanted: Vec<String> = (1..=19).map(|number| number.to_string()).collect();
        assert_eq!(ids, wanted);
        for question in ALL {
            let rests = question.probes.len() + question.figures.len();
            assert!(rests > 0, "claim {} rests on nothing", question.id);
        }
    }
}
