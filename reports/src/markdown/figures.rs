//! Figures in Markdown.

use inroads_harness::ids::MethodId;
use inroads_harness::run::{Run, Summary};

use super::write;
use crate::escape::{markdown as escape, markdown_code_cell as code_cell};
use crate::figures::{figure, ratio};

/// Every figure with its interval and the number of blocks.
pub(super) fn figures(text: &mut String, run: &Run) {
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
                    code_cell(&line.metric),
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
