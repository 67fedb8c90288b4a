//! Probes in Markdown: the matrix, why methods are not transparent, and the evidence.

use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::Run;

use super::write;
use crate::escape::{markdown as escape, markdown_code as code, markdown_code_cell as code_cell};
use crate::matrix::{find, groups, mark, scores};
use crate::why::why;

/// The matrix: probes by methods, what came as a surprise, and why.
pub(super) fn probes(text: &mut String, run: &Run) {
    if run.probes.is_empty() {
        return;
    }
    let methods: Vec<&MethodId> = run.methods.iter().map(|method| &method.id).collect();
    write(text, "## Transparency\n\n");
    write(
        text,
        "✔ works unmodified · ◐ works configured or rewritten · ✘ fails · ∅ cannot by design · – not run · \
         **!** not as expected\n\n",
    );
    let heads: String = methods.iter().map(|id| format!(" {id} |")).collect();
    write(text, &format!("| probe |{heads}\n"));
    write(
        text,
        &format!("| --- |{}\n", " :-: |".repeat(methods.len())),
    );
    let groups = groups(run);
    for id in groups.iter().flat_map(|(_, ids)| ids) {
        let marks: String = methods
            .iter()
            .map(|method| format!(" {} |", cell(run, id, method)))
            .collect();
        write(text, &format!("| {} |{marks}\n", code_cell(id)));
    }
    for (label, scores) in scores(run, &methods) {
        let scores: String = scores
            .iter()
            .map(|(passed, all)| format!(" {passed} of {all} |"))
            .collect();
        write(text, &format!("| **{label}** |{scores}\n"));
    }
    let surprises: Vec<_> = run.probes.iter().filter(|it| it.is_surprise()).collect();
    if !surprises.is_empty() {
        write(text, "\nNot as expected:\n\n");
    }
    for probe in surprises {
        let foreseen = probe.foreseen.map(|it| it.to_string()).unwrap_or_default();
        let line = format!(
            "- {} through {}: {}, where {foreseen} was expected\n",
            code(&probe.id),
            probe.method,
            probe.outcome()
        );
        write(text, &line);
    }
    let paragraphs = why(run);
    if !paragraphs.is_empty() {
        write(text, "\n### Why\n\n");
    }
    for (method, group, paragraph) in paragraphs {
        write(
            text,
            &format!(
                "- **{method}, {}**: {}\n",
                escape(group),
                escape(&paragraph)
            ),
        );
    }
    text.push('\n');
}

/// What was seen of each probe, as much as there is `room` for, in bytes.
pub(super) fn evidence(text: &mut String, run: &Run, room: usize) {
    const BEGIN: &str = "<details><summary>Evidence</summary>\n\n";
    const END: &str = "</details>\n\n";
    let groups = groups(run);
    let ids: Vec<&str> = groups.into_iter().flat_map(|(_, ids)| ids).collect();
    let shown: Vec<String> = ids.iter().map(|id| of_one(run, id)).collect();
    let left_out = |count: usize| {
        format!(
            "*The evidence of {count} more probes is in run.json: a job's summary has no room for it.*\n\n"
        )
    };
    let mut left = room.saturating_sub(BEGIN.len() + END.len() + left_out(ids.len()).len());
    let fit = shown.iter().take_while(|one| {
        let fits = one.len() <= left;
        left = left.saturating_sub(one.len());
        fits
    });
    let fit = fit.count();
    if fit > 0 {
        write(text, BEGIN);
        shown.iter().take(fit).for_each(|one| write(text, one));
        write(text, END);
    }
    if fit < ids.len() {
        write(text, &left_out(ids.len() - fit));
    }
}

/// A probe through all methods.
fn of_one(run: &Run, id: &str) -> String {
    let mut text = format!("### {}\n\n", code(id));
    let results = || run.probes.iter().filter(|probe| probe.id == id);
    for probe in results() {
        let reason = probe.reason.as_ref();
        let reason = reason.map(|it| format!(" — {}", escape(it)));
        let seen = if probe.seen.is_empty() {
            String::new()
        } else {
            format!(": {}", escape(&probe.seen))
        };
        let line = format!(
            "- {} **{}**{seen}{} ({:.0} ms)\n",
            code(probe.method.as_str()),
            probe.verdict,
            reason.unwrap_or_default(),
            probe.duration_ms
        );
        write(&mut text, &line);
    }
    if let Some(probe) = results().next() {
        let line = format!("- expected: {}\n\n", escape(&probe.expected));
        write(&mut text, &line);
    }
    text
}

fn cell(run: &Run, id: &str, method: &MethodId) -> String {
    let Some(probe) = find(run, id, method) else {
        return mark(Outcome::NotRun).to_owned();
    };
    let outcome = probe.outcome();
    let effort = match outcome {
        Outcome::Configured | Outcome::Rewritten => format!(" {outcome}"),
        _ => String::new(),
    };
    let surprise = if probe.is_surprise() { " **!**" } else { "" };
    format!("{}{effort}{surprise}", mark(outcome))
}
