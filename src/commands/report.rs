//! `inroads report`.

use std::path::Path;

use anyhow::Context as _;
use inroads_harness::run::Run;

use super::print;
use crate::cli::{Format, Report};

/// Renders a result file again.
pub(crate) fn run(arguments: &Report) -> anyhow::Result<()> {
    let run = read(&arguments.run)?;
    if let Some(other) = &arguments.beside {
        return print(&inroads_reports::beside(&run, &read(other)?));
    }
    print(&match arguments.format {
        Format::Table => inroads_reports::table(&run),
        Format::Matrix => inroads_reports::matrix(&run),
        Format::Md => inroads_reports::markdown(&run),
        Format::Json => serde_json::to_string_pretty(&run)? + "\n",
    })
}

/// The result file at `path`, or in that folder.
pub(super) fn read(path: &Path) -> anyhow::Result<Run> {
    let path = if path.is_dir() {
        path.join("run.json")
    } else {
        path.to_owned()
    };
    let reading = || format!("reading `{}`", path.display());
    let text = std::fs::read_to_string(&path)
        .with_context(|| reading() + "\n(hint: name a run's folder, `runs/ID`, or its run.json)")?;
    inroads_reports::read(&text).with_context(reading)
}
