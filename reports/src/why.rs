//! Why a method is not transparent, group by group: what the client was told, and where it then went.

use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{ProbeResult, Run};

use crate::matrix::{find, groups};

/// How much of a probe's evidence stands in a paragraph, in characters.
const EVIDENCE: usize = 160;

/// One paragraph for each method and group in which a probe does not pass unmodified: method, group, text.
pub(crate) fn why(run: &Run) -> Vec<(&MethodId, &str, String)> {
    let mut paragraphs = Vec::new();
    for method in &run.methods {
        for (group, ids) in groups(run) {
            let asked = ids.iter().filter_map(|id| find(run, id, &method.id));
            let asked: Vec<&ProbeResult> = asked
                .filter(|probe| probe.outcome() != Outcome::NotRun)
                .collect();
            let opaque: Vec<&ProbeResult> = asked
                .iter()
                .filter(|probe| probe.outcome() != Outcome::Unmodified)
                .copied()
                .collect();
            if !opaque.is_empty() {
                paragraphs.push((&method.id, group, paragraph(&asked, &opaque)));
            }
        }
    }
    paragraphs
}

fn paragraph(asked: &[&ProbeResult], opaque: &[&ProbeResult]) -> String {
    let names = |outcomes: &[Outcome]| -> Vec<&str> {
        let these = opaque
            .iter()
            .filter(|probe| outcomes.contains(&probe.outcome()));
        these
            .map(|probe| probe.id.split_once('/').map_or("", |(_, name)| name))
            .collect()
    };
    let mut text = format!(
        "{} of {} work unmodified.",
        asked.len() - opaque.len(),
        asked.len()
    );
    let clauses = [
        (Outcome::Configured, "With a setting of the client:"),
        (Outcome::Rewritten, "With another address typed:"),
        (Outcome::Fail, "Fail:"),
        (Outcome::Unsupported, "Cannot by design:"),
    ];
    for (outcome, clause) in clauses {
        let names = names(&[outcome]);
        if !names.is_empty() {
            text += &format!(" {clause} {}.", names.join(", "));
        }
    }
    let mut reasons: Vec<&str> = Vec::new();
    for reason in opaque.iter().filter_map(|probe| probe.reason.as_deref()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if !reasons.is_empty() {
        text += &format!(" By design: {}.", reasons.join("; "));
    }
    // What was seen first: the unmodified client, which was told an address and went there.
    if let Some(first) = opaque.iter().find(|probe| !probe.seen.is_empty()) {
        text += &format!(" For one, {}: {}", first.id, short(&first.seen));
    }
    text
}

fn short(seen: &str) -> String {
    let line = seen.split(['\n', '\r']).next().unwrap_or_default();
    let cut: String = line.chars().take(EVIDENCE).collect();
    if cut.len() < seen.len() {
        cut + " …"
    } else {
        cut
    }
}
