//! All measurements as CSV (RFC 4180), one line for each figure of each cell: what a spreadsheet or a data frame takes.

use inroads_harness::run::{Measurement, Run};

use crate::again::stand_ins;
use crate::escape::terminal;

const HEAD: [&str; 17] = [
    "run",
    "method",
    "scenario",
    "metric",
    "unit",
    "block",
    "access",
    "count",
    "value",
    "p50",
    "p90",
    "p99",
    "max",
    "errors",
    "valid",
    "invalid_reason",
    "stand_ins",
];

/// The measurements of a run. Figures are as exact as in the result file; a percentile that a cell has not is empty.
///
/// # Panics
/// Never: writing to memory does not fail.
#[must_use]
pub fn csv(run: &Run) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    writer.write_record(HEAD).expect("writing to memory");
    for m in &run.measurements {
        writer
            .write_record(line(run, m))
            .expect("writing to memory");
    }
    let bytes = writer.into_inner().expect("writing to memory");
    String::from_utf8(bytes).expect("only text was written")
}

fn line(run: &Run, m: &Measurement) -> [String; HEAD.len()] {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    [
        text(&run.run.id),
        text(m.method.as_str()),
        text(&m.scenario),
        text(&m.metric),
        m.unit.as_str().to_owned(),
        m.block.to_string(),
        m.access.to_string(),
        m.count.to_string(),
        m.value.to_string(),
        number(m.p50),
        number(m.p90),
        number(m.p99),
        number(m.max),
        m.errors.to_string(),
        m.valid.to_string(),
        text(m.invalid_reason.as_deref().unwrap_or_default()),
        text(&stand_ins(run).join(", ")),
    ]
}

/// Text from elsewhere. A spreadsheet would take what begins like a formula for one, and run it (OWASP, "CSV
/// Injection"); with an apostrophe in front it is text.
fn text(text: &str) -> String {
    let begins_a_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let apostrophe = if begins_a_formula { "'" } else { "" };
    format!("{apostrophe}{}", terminal(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_begins_a_formula(beginning in "[=+@\\-\t\r\n]?", rest in any::<String>()) {
            let cell = text(&format!("{beginning}{rest}"));
            prop_assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell:?}");
            prop_assert!(!cell.chars().any(char::is_control), "{cell:?}");
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        assert_eq!(
            text("carried 71% of the rate, \"only\""),
            "carried 71% of the rate, \"only\""
        );
        assert_eq!(text("=cmd()"), "'=cmd()");
    }
}
