//! What changed against a baseline, in Markdown.

use inroads_harness::comparison::{Change, Comparison, Found, Named, Weight};

use super::write;
use crate::comparison::{
    advisory, allowance, decision, factor, found, interval, of_weight, outcome, side,
};
use crate::escape::{markdown as escape, markdown_code as code, markdown_code_cell as code_cell};

/// The decision, its reasons, and what they rest on.
pub(super) fn against(text: &mut String, comparison: &Comparison) {
    let baselines: Vec<String> = comparison.baselines.iter().map(named).collect();
    let line = format!(
        "## Against the baseline\n\n**{}**: {} against {}. {}\n\n",
        decision(comparison.decision),
        named(&comparison.candidate),
        baselines.join(", "),
        allowance(comparison)
    );
    write(text, &line);
    for reason in &comparison.reasons {
        write(text, &format!("- {}\n", escape(reason)));
    }
    if !comparison.reasons.is_empty() {
        text.push('\n');
    }
    let blocking: Vec<&Change> = of_weight(comparison, Weight::Blocking).collect();
    cells(text, "Cells that can be a regression", &blocking);
    let (moved, others) = advisory(comparison);
    cells(text, "Advisory cells that changed", &moved);
    if !others.is_empty() {
        write(text, &format!("Other advisory cells: {others}.\n\n"));
    }
    verdicts(text, comparison);
}

fn named(run: &Named) -> String {
    format!(
        "{} of {} ({})",
        code(&run.id),
        run.started_at.strftime("%Y-%m-%d %H:%M UTC"),
        escape(&run.profile)
    )
}

fn cells(text: &mut String, title: &str, changes: &[&Change]) {
    if changes.is_empty() {
        return;
    }
    let head = format!(
        "{title}; above ×1 is worse, whichever direction of the unit is the better one:\n\n\
         | cell | baseline | candidate | worse by | 95% interval | found |\n\
         | --- | --: | --: | --: | --: | --- |\n"
    );
    write(text, &head);
    for change in changes {
        let word = found(change.found);
        let word = match change.found {
            Found::Worse | Found::Missing | Found::Unclear => format!("**{word}**"),
            _ => word.to_owned(),
        };
        let note = change.note.as_ref();
        let note = note.map(|note| format!(": {}", escape(note)));
        let line = format!(
            "| {} | {} | {} | {} | {} | {word}{} |\n",
            code_cell(&change.name()),
            side(change.baseline, change.unit),
            side(change.candidate, change.unit),
            factor(change.worsening),
            interval(change.worsening),
            note.unwrap_or_default()
        );
        write(text, &line);
    }
    text.push('\n');
}

fn verdicts(text: &mut String, comparison: &Comparison) {
    if comparison.verdicts.is_empty() {
        return;
    }
    write(
        text,
        "Required probes that came out otherwise:\n\n\
         | probe | method | was | is | seen | acknowledged |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for change in &comparison.verdicts {
        let line = format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            code_cell(&change.probe),
            change.method,
            outcome(change.baseline),
            outcome(change.candidate),
            escape(&change.seen),
            change
                .acknowledged
                .as_deref()
                .map(escape)
                .unwrap_or_default()
        );
        write(text, &line);
    }
    text.push('\n');
}
