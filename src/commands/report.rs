//! `inroads report`.

use std::path::Path;

use anyhow::Context as _;
use inroads_harness::comparison::{Acknowledgements, Comparison, Rules, differences};
use inroads_harness::run::Run;
use inroads_reports::Direction;

use super::gate::today;
use super::print;
use crate::cli::{Format, Report};

/// Renders a result file again.
pub(crate) fn run(arguments: &Report) -> anyhow::Result<()> {
    let run = read(&arguments.run)?;
    let text = match (&arguments.beside, &arguments.against) {
        (Some(other), _) => inroads_reports::beside(&run, &read(other)?),
        (None, Some(earlier)) => render(&run, Some(&against(earlier, &run)?), arguments.format)?,
        (None, None) => render(&run, None, arguments.format)?,
    };
    match &arguments.out {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("writing `{}`", file.display()))
        }
        None => print(&text),
    }
}

fn render(run: &Run, against: Option<&Comparison>, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Table => match against {
            None => inroads_reports::table(run),
            Some(against) => format!(
                "{}\n{}",
                inroads_reports::table(run),
                inroads_reports::comparison(against)
            ),
        },
        Format::Matrix => inroads_reports::matrix(run),
        Format::Md => inroads_reports::markdown(run, against),
        Format::Html => inroads_reports::html(run, against),
        Format::Json => serde_json::to_string_pretty(run)? + "\n",
        Format::Junit => inroads_reports::junit(run, against),
        Format::Csv => inroads_reports::csv(run),
        Format::Openmetrics => inroads_reports::openmetrics(run),
        Format::BenchmarkSmaller => {
            inroads_reports::benchmark_action(run, Direction::SmallerIsBetter)
        }
        Format::BenchmarkBigger => {
            inroads_reports::benchmark_action(run, Direction::BiggerIsBetter)
        }
        Format::Bencher => inroads_reports::bencher(run),
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
    let file = std::fs::read(&path)
        .with_context(|| reading() + "\n(hint: name a run's folder, `runs/ID`, or its run.json)")?;
    inroads_reports::read(&file).with_context(reading)
}

/// The result file at `path`, or in that folder, or in each folder of that folder that has one.
pub(super) fn read_all(path: &Path) -> anyhow::Result<Vec<Run>> {
    if !path.is_dir() || path.join("run.json").exists() {
        return Ok(vec![read(path)?]);
    }
    let folders = std::fs::read_dir(path).and_then(|entries| {
        let folders = entries.map(|entry| Ok(entry?.path()));
        folders.collect::<std::io::Result<Vec<_>>>()
    });
    let mut folders = folders.with_context(|| format!("listing `{}`", path.display()))?;
    folders.retain(|folder| folder.join("run.json").exists());
    folders.sort();
    anyhow::ensure!(
        !folders.is_empty(),
        "`{}` is no run and has none in it\n(hint: name a run's folder, `runs/ID`, or a folder of several)",
        path.display()
    );
    folders.iter().map(|folder| read(folder)).collect()
}

/// Whether `candidate` can be held against all of these.
pub(super) fn comparable(baselines: &[Run], candidate: &Run, hint: &str) -> anyhow::Result<()> {
    for baseline in baselines {
        let id = &baseline.run.id;
        anyhow::ensure!(
            *id != candidate.run.id,
            "the run {id} is one of those that it is held against\n(hint: leave it out, or name a folder that it is not in)"
        );
        let same = baselines.iter().filter(|other| other.run.id == *id).count();
        anyhow::ensure!(
            same == 1,
            "the run {id} is {same} times in the baseline\n(hint: name each run once; a copy of one shows nothing that it does not)"
        );
        let differences = differences(baseline, candidate);
        anyhow::ensure!(
            differences.is_empty(),
            "the runs {} and {} cannot be compared: they differ in {}\n(hint: {hint})",
            baseline.run.id,
            candidate.run.id,
            differences.join(", and in ")
        );
    }
    Ok(())
}

/// What changed since `earlier`, which is a run, a folder of several, or a comparison of this one that the gate wrote.
fn against(earlier: &Path, run: &Run) -> anyhow::Result<Comparison> {
    let written = std::fs::read(earlier).ok();
    let written = written.and_then(|text| serde_json::from_slice::<Comparison>(&text).ok());
    if let Some(written) = written {
        anyhow::ensure!(
            written.candidate.id == run.run.id,
            "`{}` judges the run {}, and not {}\n(hint: name the comparison that was written beside this run, or an earlier run)",
            earlier.display(),
            written.candidate.id,
            run.run.id
        );
        return Ok(written);
    }
    let baselines = read_all(earlier)?;
    let hint = "`--beside` shows runs of different clusters side by side";
    comparable(&baselines, run, hint)?;
    let accepted = Acknowledgements::default();
    Ok(Comparison::between(
        (&baselines, run),
        &Rules::default(),
        &accepted,
        today(),
    ))
}
