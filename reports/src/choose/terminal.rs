//! The answer for a terminal, at most 100 columns wide.

use inroads_harness::expected::Outcome;

use super::advice::{Advice, Ahead, Evidence, Fit, Ranked, Reason, Side};
use super::team::Matters;
use crate::escape;
use crate::figures::{figure, ratio};

/// The widest line.
const WIDTH: usize = 100;

/// How much of a detail of a probe is shown, in characters.
const DETAIL: usize = 120;

/// The sides, in the order in which they are shown, and the mark of each.
const MARKS: [(Side, &str); 4] = [
    (Side::RulesOut, "   ✘ "),
    (Side::For, "   + "),
    (Side::Against, "   - "),
    (Side::Open, "   ? "),
];

/// The answer, to be read.
#[must_use]
pub fn terminal(advice: &Advice) -> String {
    let mut page = Page::default();
    page.write("", &heading(advice));
    page.write("", &basis(advice));
    page.write("", &verdict(advice));
    for (place, ranked) in (1..).zip(&advice.ranking) {
        page.end();
        page.write(
            "",
            &format!(
                "{place}. {}: {} ({})",
                ranked.method,
                fit(ranked),
                ranked.title
            ),
        );
        for condition in &ranked.conditions {
            page.write("   if ", &condition.text);
        }
        for (side, mark) in MARKS {
            for reason in ranked.reasons.iter().filter(|it| it.side == side) {
                page.write(mark, &sentence(reason));
            }
        }
        let next = advice
            .ranking
            .iter()
            .skip_while(|it| it.method != ranked.method)
            .nth(1);
        if let (Some(ahead), Some(next)) = (&ranked.ahead, next) {
            page.write("   ", &format!("before {}: {}", next.method, why(ahead)));
        }
    }
    page.end();
    for note in &advice.notes {
        page.write("", note);
    }
    page.text
}

/// Lines that are wrapped, and hold nothing that a terminal would take as an order.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A paragraph, with `mark` in front; further lines begin below what follows it.
    fn write(&mut self, mark: &str, text: &str) {
        let indent = " ".repeat(mark.chars().count());
        let mut line = mark.to_owned();
        let mut used = indent.len();
        for word in text.split_whitespace().map(escape::terminal) {
            // What is longer than a line, a text of somebody else's, is cut where the line ends.
            let word: Vec<char> = word.chars().collect();
            for (nth, piece) in word.chunks(WIDTH - indent.len()).enumerate() {
                if used > indent.len() && (nth > 0 || used + 1 + piece.len() > WIDTH) {
                    self.line(&line);
                    line.clone_from(&indent);
                    used = indent.len();
                }
                if used > indent.len() {
                    line.push(' ');
                    used += 1;
                }
                line.extend(piece);
                used += piece.len();
            }
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.text += line.trim_end();
        self.end();
    }

    fn end(&mut self) {
        self.text.push('\n');
    }
}

fn heading(advice: &Advice) -> String {
    match advice.team.trim() {
        "" => "Which way in".to_owned(),
        name => format!("Which way in for {name}"),
    }
}

fn basis(advice: &Advice) -> String {
    match &advice.run {
        Some(run) => format!(
            "by run {} · {} · {} {} · {}, {} cores · {}",
            run.named.id,
            run.named.profile,
            run.cluster.kind,
            run.cluster.kubernetes,
            run.cpu,
            run.cores,
            run.named.started_at.strftime("%Y-%m-%d"),
        ),
        None => "by what methods declare: nothing was measured. `inroads bench all` measures it; name its run \
                 behind `inroads choose`"
            .to_owned(),
    }
}

fn verdict(advice: &Advice) -> String {
    match advice.ranking.first() {
        Some(first) if first.fit == Fit::Fits => format!("→ {}", first.method),
        Some(first) if first.fit == Fit::FitsIf => {
            let all: Vec<&str> = first.conditions.iter().map(|it| it.text.as_str()).collect();
            format!("→ {}, if {}", first.method, all.join("; "))
        }
        Some(_) => "→ none fits; the first of them is ruled out by the least".to_owned(),
        None => "→ none: the run has none of the four ways in".to_owned(),
    }
}

fn fit(ranked: &Ranked) -> &'static str {
    match ranked.fit {
        Fit::Fits => "fits",
        Fit::FitsIf => "fits, if …",
        Fit::RuledOut => "ruled out",
    }
}

fn why(ahead: &Ahead) -> String {
    match ahead {
        Ahead::Fit => "it fits as things are".to_owned(),
        Ahead::Conditions { weight, next } => {
            format!("its conditions weigh less, {weight} to {next}")
        }
        Ahead::Figure { own, next } => format!("{own}, to {next}"),
        Ahead::Order {
            within_noise: Some((own, next)),
        } if own == next => {
            format!("the article's order decides, since both have {own}")
        }
        Ahead::Order {
            within_noise: Some((own, next)),
        } => format!("the article's order decides, since noise does not tell {own} from {next}"),
        Ahead::Order { within_noise: None } => {
            "the article's order decides, since what matters was not measured of both".to_owned()
        }
    }
}

/// A reason: what it is about, and what it rests on, probes of one outcome together.
fn sentence(reason: &Reason) -> String {
    let mut clauses: Vec<String> = Vec::new();
    for same in reason
        .evidence
        .chunk_by(|one, two| probe(one).is_some() && probe(one) == probe(two))
    {
        let ids: Vec<&str> = same.iter().filter_map(id).collect();
        match same.first() {
            Some(Evidence::Probe {
                outcome, detail, ..
            }) => {
                let detail = detail.as_deref().map(|it| format!(" ({})", short(it)));
                clauses.push(format!(
                    "{}: {}{}",
                    ids.join(", "),
                    outcome.map_or("not measured", said),
                    detail.unwrap_or_default()
                ));
            }
            Some(other) => clauses.push(clause(other)),
            None => {}
        }
    }
    let mut evidence = reason.evidence.iter();
    if evidence.all(|it| matches!(it, Evidence::Figure { .. })) {
        return clauses.join("; ");
    }
    format!("{}: {}", reason.about, clauses.join("; "))
}

fn probe(evidence: &Evidence) -> Option<(Option<Outcome>, Option<&str>)> {
    match evidence {
        Evidence::Probe {
            outcome, detail, ..
        } => Some((*outcome, detail.as_deref())),
        _ => None,
    }
}

fn id(evidence: &Evidence) -> Option<&str> {
    match evidence {
        Evidence::Probe { id, .. } => Some(id),
        _ => None,
    }
}

fn said(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unmodified => "pass, unmodified",
        Outcome::Configured => "pass, configured",
        Outcome::Rewritten => "pass, rewritten",
        Outcome::Fail => "fail",
        Outcome::Unsupported => "unsupported",
        Outcome::NotRun => "not run",
    }
}

fn clause(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Probe { id, .. } => id.clone(),
        Evidence::Figure {
            scenario,
            metric,
            unit,
            median,
            ratio_to_direct,
            behind,
        } => {
            let name = format!("{scenario} {metric}");
            let (Some(unit), Some(median)) = (unit, median) else {
                return format!("{name}: not measured in this run");
            };
            let of_direct = ratio_to_direct.map(|it| format!(" {} of direct,", ratio(it)));
            let behind = behind.as_ref().map(|it| format!("; {it} is better"));
            format!(
                "{name}{} {}{}",
                of_direct.unwrap_or_default(),
                figure(*median, *unit),
                behind.unwrap_or_default()
            )
        }
        Evidence::Unmodified { of: 0, .. } => "not measured in this run".to_owned(),
        Evidence::Unmodified { passed, of } => {
            format!("{passed} of {of} required probes pass unmodified")
        }
        Evidence::Said { text } => text.clone(),
        Evidence::Declared { text } => format!("it declares `{text}`"),
        Evidence::NotMeasured { why } => format!("not measured: {why}"),
    }
}

fn short(detail: &str) -> String {
    if detail.chars().count() <= DETAIL {
        return detail.to_owned();
    }
    detail.chars().take(DETAIL).chain(" …".chars()).collect()
}

/// What matters, for a sentence.
pub(super) fn matters(matters: Matters) -> &'static str {
    match matters {
        Matters::Effort => "little effort",
        Matters::Latency => "latency",
        Matters::Throughput => "throughput",
        Matters::Cost => "cost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_foreign_text_is_an_order_or_longer_than_a_line() {
        let mut page = Page::default();
        page.write(
            "   + ",
            &format!(
                "a\u{1b}[2J\u{9b}31m\n{} \u{202e}b {}",
                "x".repeat(250),
                "y ".repeat(120)
            ),
        );
        assert!(page.text.contains("a\\u{1b}[2J\\u{9b}31m"), "{}", page.text);
        assert!(!page.text.chars().any(|c| c != '\n' && c.is_control()));
        assert!(page.text.lines().count() > 4);
        for line in page.text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
