//! The report in Markdown: everything a run found, for a reader and for a CI job's summary.

mod against;
mod claims;
mod environment;
mod figures;
mod probes;

use inroads_harness::comparison::Comparison;
use inroads_harness::run::{Level, ProbeResult, Run, Status};

use crate::escape::{markdown as escape, markdown_block, markdown_code as code};
use crate::table::table;

/// The most that a report may take, in bytes. GitHub drops a step's summary above 1 MiB; what is left of that is for
/// whatever else the step says.
pub const MARKDOWN_LIMIT: usize = 1_000_000;

/// The report of a run, and of what changed against a baseline where there is one.
///
/// It is never longer than [`MARKDOWN_LIMIT`]. The evidence of probes gives way first, and the report says so.
#[must_use]
pub fn markdown(run: &Run, against: Option<&Comparison>) -> String {
    let mut text = format!(
        "# Inroads: {}\n\nRun {}, {}.\n\n",
        code(&run.run.command),
        code(&run.run.id),
        status(run)
    );
    if let Some(comparison) = against {
        against::against(&mut text, comparison);
    }
    write(&mut text, &markdown_block(&table(run)));
    text.push('\n');
    warnings(&mut text, run);
    probes::probes(&mut text, run);
    let mut rest = String::new();
    claims::claims(&mut rest, run);
    figures::figures(&mut rest, run);
    environment::environment(&mut rest, run);
    let room = MARKDOWN_LIMIT.saturating_sub(text.len() + rest.len());
    probes::evidence(&mut text, run, room);
    cut(text + &rest)
}

fn status(run: &Run) -> &'static str {
    let mut required = run.probes.iter().filter(|it| it.level == Level::Must);
    match run.run.status {
        Status::Complete if required.any(ProbeResult::is_surprise) => {
            "complete, and required probes came out otherwise than is expected"
        }
        Status::Complete => "complete",
        Status::Partial => "partial: not everything that was asked for was done",
        Status::Failed => "failed",
    }
}

fn warnings(text: &mut String, run: &Run) {
    if run.warnings.is_empty() {
        return;
    }
    write(text, "## Warnings\n\n");
    for warning in &run.warnings {
        let line = format!(
            "- **{}**: {} *({})*\n",
            escape(&warning.kind),
            escape(&warning.text),
            escape(&warning.remedy)
        );
        write(text, &line);
    }
    text.push('\n');
}

/// The last resort, where even a report without evidence is too long: whole lines, and a word about it.
fn cut(mut text: String) -> String {
    const WORD: &str =
        "\n*Cut here: the report is longer than a summary may be. All of it is in run.json.*\n";
    if text.len() > MARKDOWN_LIMIT {
        let room = text.floor_char_boundary(MARKDOWN_LIMIT - WORD.len());
        let end = text.get(..room).and_then(|text| text.rfind('\n'));
        text.truncate(end.map_or(0, |end| end + 1));
        text.push_str(WORD);
    }
    text
}

fn write(text: &mut String, more: &str) {
    text.push_str(more);
}
