//! The sample with a hostile cluster behind it: every text that a cluster, a kubeconfig or a command line has a say in
//! is one that would do harm where it is not escaped.

use inroads_harness::comparison::Comparison;
use inroads_harness::run::Run;
use serde_json::Value;

/// What would do harm in one form or another.
const HOSTILE: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "a|b|c",
    "``` `x` ```",
    "one\ntwo\r\n\n# heading\n\n- item",
    "\u{1b}[31mred\u{1b}[0m \u{9b}2J \u{1b}]0;title\u{7}",
    "right\u{202e}left\u{2066}isolated",
    "=cmd|' /C calc'!A0",
    "\u{0}\u{8}\u{7f}\u{ffff}",
    "[a link](https://evil.example) ![](https://evil.example/x.png) https://evil.example www.evil.example",
    "@everyone **bold** ~~struck~~ $x$ &lt;b&gt;",
    "]]> --> </details> </testcase>",
];

/// Fields that are no free text: enums, ids with a form of their own, dates, and what is read as something else.
const FORMED: &[&str] = &[
    "schema_version",
    "status",
    "started_at",
    "finished_at",
    "provenance",
    "method",
    "level",
    "verdict",
    "effort",
    "foreseen",
    "unit",
    "access",
    "histogram",
    "weight",
    "found",
    "decision",
    "baseline",
    "candidate",
];

/// The sample run.
pub(crate) fn run() -> Run {
    let mut value: Value =
        serde_json::from_str(include_str!("../sample-run.json")).expect("the sample is JSON");
    let count = spoil(&mut value, "", &mut 0);
    assert!(count > 500, "{count} fields were spoilt");
    inroads_reports::read(serde_json::to_vec(&value).expect("the sample is JSON"))
        .expect("text may be any text")
}

/// The sample comparison.
pub(crate) fn comparison() -> Comparison {
    let text = include_str!("../sample-comparison.json");
    let mut value: Value = serde_json::from_str(text).expect("the sample is JSON");
    assert!(spoil(&mut value, "", &mut 0) > 20);
    serde_json::from_value(value).expect("text may be any text")
}

/// Spoils every text below a field, and counts them. What refers to something else must still do so, so each text is
/// spoilt in a way of its own: `http` everywhere becomes the same.
fn spoil(value: &mut Value, field: &str, seed: &mut usize) -> usize {
    match value {
        Value::String(text) if !FORMED.contains(&field) => {
            *seed += 1;
            let by = if ["id", "scenario", "metric"].contains(&field) {
                text.bytes().map(usize::from).sum()
            } else {
                *seed
            };
            let hostile = HOSTILE[by % HOSTILE.len()];
            *text = format!("{hostile}{text}{hostile}");
            1
        }
        Value::Array(values) => values.iter_mut().map(|it| spoil(it, field, seed)).sum(),
        Value::Object(fields) => {
            // A method's id has a form that is checked, and a title beside it; other ids are free text.
            let is_method = fields.contains_key("exposes");
            let fields = fields.iter_mut();
            let fields = fields.filter(|(name, _)| !(is_method && *name == "id"));
            fields.map(|(name, it)| spoil(it, name, seed)).sum()
        }
        _ => 0,
    }
}
