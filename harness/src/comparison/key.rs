//! Whether two runs can be compared at all.

use crate::run::Run;

/// What a `comparable_key` names, part by part.
const PARTS: [&str; 5] = ["program", "processor", "kernel", "cluster", "laptops"];

/// In what two runs differ that moves figures: a line for each part, none where they can be compared.
#[must_use]
pub fn differences(baseline: &Run, candidate: &Run) -> Vec<String> {
    let parts = |run: &Run| -> Vec<String> {
        let key = &run.environment.comparable_key;
        key.split("; ").map(ToOwned::to_owned).collect()
    };
    let (before, after) = (parts(baseline), parts(candidate));
    let mut found = Vec::new();
    for index in 0..before.len().max(after.len()) {
        let of = |parts: &[String]| {
            parts
                .get(index)
                .cloned()
                .unwrap_or_else(|| "none".to_owned())
        };
        let (before, after) = (of(&before), of(&after));
        if before != after {
            let part = PARTS.get(index).unwrap_or(&"environment");
            found.push(format!("{part}: `{before}` and `{after}`"));
        }
    }
    if baseline.run.profile != candidate.run.profile {
        found.push(format!(
            "profile: `{}` and `{}`",
            baseline.run.profile, candidate.run.profile
        ));
    }
    found
}
