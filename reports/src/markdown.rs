//! The report in Markdown: everything a run found, for a reader and for a CI job's summary.

use std::fmt::Write as _;

use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{ClaimVerdict, Provenance, Run, Summary, Unit};

use crate::figures::{figure, ratio};
use crate::matrix::{find, groups, mark, scores};
use crate::table::table;
use crate::why::why;

/// The report of a run.
#[must_use]
pub fn markdown(run: &Run) -> String {
    let mut text = format!("# Inroads: {}\n\n", code(&run.run.command));
    write(
        &mut text,
        &format!("Run {}, {}.\n\n", code(&run.run.id), status(run)),
    );
    write(&mut text, &format!("```text\n{}```\n\n", table(run)));
    if !run.warnings.is_empty() {
        write(&mut text, "## Warnings\n\n");
        for warning in &run.warnings {
            write(
                &mut text,
                &format!(
                    "- **{}**: {} *({})*\n",
                    warning.kind,
                    escape(&warning.text),
                    escape(&warning.remedy)
                ),
            );
        }
        text.push('\n');
    }
    probes(&mut text, run);
    claims(&mut text, run);
    figures(&mut text, run);
    environment(&mut text, run);
    text
}

fn status(run: &Run) -> &'static str {
    use inroads_harness::run::Status;
    match run.run.status {
        Status::Complete => "complete",
        Status::Partial => "partial: not everything that was asked for was done",
        Status::Failed => "failed",
    }
}

/// The matrix: probes by methods, with the evidence below.
fn probes(text: &mut String, run: &Run) {
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
        write(text, &format!("| {} |{marks}\n", code(id)));
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
            &format!("- **{method}, {group}**: {}\n", escape(&paragraph)),
        );
    }
    let ids: Vec<&str> = groups.into_iter().flat_map(|(_, ids)| ids).collect();
    write(text, "\n<details><summary>Evidence</summary>\n\n");
    for id in &ids {
        write(text, &format!("### {}\n\n", code(id)));
        for probe in run.probes.iter().filter(|probe| probe.id == *id) {
            let reason = probe
                .reason
                .as_ref()
                .map(|r| format!(" — {}", escape(r)))
                .unwrap_or_default();
            let seen = if probe.seen.is_empty() {
                String::new()
            } else {
                format!(": {}", escape(&probe.seen))
            };
            write(
                text,
                &format!(
                    "- {} **{}**{seen}{reason} ({:.0} ms)\n",
                    code(probe.method.as_str()),
                    probe.verdict,
                    probe.duration_ms
                ),
            );
        }
        if let Some(probe) = run.probes.iter().find(|probe| probe.id == *id) {
            write(
                text,
                &format!("- expected: {}\n\n", escape(&probe.expected)),
            );
        }
    }
    write(text, "</details>\n\n");
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

/// What the source article claims, and what the run says to it.
fn claims(text: &mut String, run: &Run) {
    if run.claims.is_empty() {
        return;
    }
    write(
        text,
        "## What the article claims\n\n| | claim | answer | what was seen | rests on | again |\n\
         | --: | --- | --- | --- | --- | --- |\n",
    );
    for claim in &run.claims {
        let verdict = match claim.verdict {
            ClaimVerdict::Upheld => "**upheld**",
            ClaimVerdict::Refuted => "**refuted**",
            ClaimVerdict::Depends => "**depends**",
            ClaimVerdict::NotShown => "not shown",
        };
        let rests: Vec<String> = claim
            .probes
            .iter()
            .chain(&claim.figures)
            .map(|id| code(id))
            .collect();
        write(
            text,
            &format!(
                "| {} | {} | {verdict} | {} | {} | {} |\n",
                claim.id,
                escape(&claim.claim),
                escape(&claim.evidence),
                rests.join(" "),
                code(&claim.redo)
            ),
        );
    }
    text.push('\n');
}

/// Every figure with its interval and the number of blocks.
fn figures(text: &mut String, run: &Run) {
    if run.summary.is_empty() {
        return;
    }
    write(
        text,
        "## Figures\n\nMedian over blocks; 95% intervals over blocks; the ratio is to `direct` of the same block.\n\n",
    );
    for scenario in &run.scenarios {
        write(text, &format!("### {}\n\n", escape(&scenario.title)));
        write(
            text,
            "| metric | method | median | 95% interval | ratio to direct | 95% interval | blocks |\n",
        );
        write(text, "| --- | --- | --: | --: | --: | --: | --: |\n");
        let mut lines: Vec<&Summary> = run
            .summary
            .iter()
            .filter(|s| s.scenario == scenario.id)
            .collect();
        let order = |id: &MethodId| run.methods.iter().position(|method| method.id == *id);
        let first_seen = |metric: &str| {
            run.summary
                .iter()
                .position(|s| s.scenario == scenario.id && s.metric == metric)
        };
        lines.sort_by_key(|line| (first_seen(&line.metric), order(&line.method)));
        for line in lines {
            write(
                text,
                &format!(
                    "| {} | {} | {} | {} | {} | {} | {} |\n",
                    code(&line.metric),
                    line.method,
                    figure(line.median, line.unit),
                    interval(line.ci_low, line.ci_high, |value| figure(value, line.unit)),
                    line.ratio_to_direct.map(ratio).unwrap_or_default(),
                    interval(line.ratio_ci_low, line.ratio_ci_high, ratio),
                    line.blocks,
                ),
            );
        }
        text.push('\n');
    }
}

fn interval(low: Option<f64>, high: Option<f64>, show: impl Fn(f64) -> String) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("{} – {}", show(low), show(high)),
        _ => String::new(),
    }
}

fn environment(text: &mut String, run: &Run) {
    let environment = &run.environment;
    write(
        text,
        "## Methods\n\n| method | is | needs | set up in |\n| --- | --- | --- | --: |\n",
    );
    for method in &run.methods {
        let needs: Vec<String> = method.needs.iter().map(|need| escape(need)).collect();
        let setup = method
            .setup_ms
            .map(|ms| figure(ms / 1e3, Unit::Seconds))
            .unwrap_or_default();
        write(
            text,
            &format!(
                "| {} | {} | {} | {setup} |\n",
                method.id,
                escape(&method.title),
                needs.join("<br>")
            ),
        );
    }
    write(text, "\n## Environment\n\n");
    write(
        text,
        &format!(
            "- {} cores of {}, Linux {}\n",
            environment.cores,
            escape(&environment.cpu),
            escape(&environment.kernel)
        ),
    );
    let cluster = &environment.cluster;
    write(
        text,
        &format!(
            "- cluster: {} {}, {} nodes; pods: {}; Services: {}\n",
            escape(&cluster.kind),
            escape(&cluster.kubernetes),
            cluster.nodes,
            escape(&cluster.cni),
            escape(&cluster.kube_proxy)
        ),
    );
    if let Some(laptops) = &environment.laptops {
        let line = format!(
            "- laptops: {} for each method at once, {}; rates are those of all together\n",
            laptops.count,
            escape(&laptops.place)
        );
        write(text, &line);
    }
    write(
        text,
        &format!(
            "- build: {}; profile: {}; seed: {}\n",
            environment.build_profile,
            escape(&run.run.profile),
            run.run.seed
        ),
    );
    write(text, "- components:\n");
    for component in &environment.components {
        let stand_in = if component.provenance == Provenance::StandIn {
            " (**stand-in**)"
        } else {
            ""
        };
        write(
            text,
            &format!(
                "  - {}: {}{stand_in}\n",
                escape(&component.name),
                escape(&component.version)
            ),
        );
    }
    write(
        text,
        &format!(
            "- comparable with runs of: {}\n\n",
            code(&environment.comparable_key)
        ),
    );
    write(
        text,
        &format!(
            "To do it again: {}\n",
            code(&format!("{} --seed {}", run.run.command, run.run.seed))
        ),
    );
}

fn write(text: &mut String, more: &str) {
    text.write_str(more).expect("writing to a string");
}

/// Text from elsewhere, harmless in Markdown and in the HTML that Markdown lets through.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '!' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Text from elsewhere as code: a fence longer than any run of backticks inside.
pub(crate) fn code(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    // A pipe would end the cell of a table even inside code.
    format!("{fence}{pad}{}{pad}{fence}", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            escape("<script>|`x`\n# y"),
            "&lt;script&gt;\\|\\`x\\` \\# y"
        );
        assert_eq!(code("a`b"), "`` a`b ``");
        assert_eq!(code("a|b"), "`a\\|b`");
    }
}
