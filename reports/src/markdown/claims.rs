//! The article's claims in Markdown, answered.

use inroads_harness::run::{ClaimVerdict, Run};

use super::write;
use crate::escape::{markdown as escape, markdown_code_cell as code_cell};

/// What the source article claims, and what the run says to it.
pub(super) fn claims(text: &mut String, run: &Run) {
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
            .map(|id| code_cell(id))
            .collect();
        write(
            text,
            &format!(
                "| {} | {} | {verdict} | {} | {} | {} |\n",
                escape(&claim.id),
                escape(&claim.claim),
                escape(&claim.evidence),
                rests.join(" "),
                code_cell(&claim.redo)
            ),
        );
    }
    text.push('\n');
}
