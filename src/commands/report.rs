//! `inroads report`.

use anyhow::Context as _;

use super::print;
use crate::cli::{Format, Report};

/// Renders a result file again.
pub(crate) fn run(arguments: &Report) -> anyhow::Result<()> {
    let path = if arguments.run.is_dir() {
        arguments.run.join("run.json")
    } else {
        arguments.run.clone()
    };
    let reading = || format!("reading `{}`", path.display());
    let text = std::fs::read_to_string(&path)
        .with_context(|| reading() + "\n(hint: name a run's folder, `runs/ID`, or its run.json)")?;
    let run = inroads_reports::read(&text).with_context(reading)?;
    print(&match arguments.format {
        Format::Table => inroads_reports::table(&run),
        Format::Md => inroads_reports::markdown(&run),
        Format::Json => serde_json::to_string_pretty(&run)? + "\n",
    })
}
