//! The transparency matrix: probes by group, methods beside each other, and what came as a surprise.

use std::fmt::Write as _;

use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::probe::is_of_transparency;
use inroads_harness::run::{Level, ProbeResult, Run};

use crate::escape::terminal;

/// The width of a probe's name.
const LABEL: usize = 27;

/// The least width of a method's column.
const COLUMN: usize = 14;

/// A mark that can be told from the others without colour, and by a screen reader.
pub(crate) fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unmodified => "✔",
        Outcome::Configured | Outcome::Rewritten => "◐",
        Outcome::Fail => "✘",
        Outcome::Unsupported => "∅",
        Outcome::NotRun => "–",
    }
}

/// The probes of a run in report order, by group.
pub(crate) fn groups(run: &Run) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for probe in &run.probes {
        let group = group_of(&probe.id);
        let place = groups.iter().position(|(name, _)| *name == group);
        let place = place.unwrap_or_else(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, ids)) = groups.get_mut(place)
            && !ids.contains(&probe.id.as_str())
        {
            ids.push(&probe.id);
        }
    }
    groups
}

/// What stands before the slash.
pub(crate) fn group_of(id: &str) -> &str {
    id.split_once('/').map_or(id, |(group, _)| group)
}

/// The result of a probe through a method.
pub(crate) fn find<'a>(run: &'a Run, id: &str, method: &MethodId) -> Option<&'a ProbeResult> {
    run.probes
        .iter()
        .find(|probe| probe.id == id && probe.method == *method)
}

/// How a method did.
#[derive(Default)]
pub(crate) struct Score {
    /// Required probes of transparency that passed unmodified.
    pub(crate) unmodified: usize,
    /// Those that passed at any effort.
    pub(crate) passed: usize,
    /// All of them: those that were not asked count as not passed.
    pub(crate) all: usize,
    /// Required probes of lifecycle and safety that passed.
    pub(crate) kept: usize,
    /// Those of them that were asked: not all can be of each method.
    pub(crate) asked: usize,
}

pub(crate) fn score(run: &Run, method: &MethodId) -> Score {
    let probes = run.probes.iter();
    let must = probes.filter(|it| it.method == *method && it.level == Level::Must);
    must.fold(Score::default(), |mut score, probe| {
        let outcome = probe.outcome();
        let works = usize::from(matches!(
            outcome,
            Outcome::Unmodified | Outcome::Configured | Outcome::Rewritten
        ));
        if is_of_transparency(&probe.id) {
            score.unmodified += usize::from(outcome == Outcome::Unmodified);
            score.passed += works;
            score.all += 1;
        } else {
            score.kept += works;
            score.asked += usize::from(outcome != Outcome::NotRun);
        }
        score
    })
}

/// The three lines that sum a matrix up: what each is of, and what each method has of it and of how many.
pub(crate) fn scores(run: &Run, methods: &[&MethodId]) -> [(&'static str, Vec<(usize, usize)>); 3] {
    let scores: Vec<Score> = methods.iter().map(|method| score(run, method)).collect();
    let of_each = |part: fn(&Score) -> (usize, usize)| scores.iter().map(part).collect();
    [
        ("probes, unmodified", of_each(|it| (it.unmodified, it.all))),
        ("probes, at any effort", of_each(|it| (it.passed, it.all))),
        ("lifecycle and safety", of_each(|it| (it.kept, it.asked))),
    ]
}

/// The matrix for a terminal, at most 100 columns wide for five methods.
#[must_use]
pub fn matrix(run: &Run) -> String {
    let methods: Vec<&MethodId> = run.methods.iter().map(|method| &method.id).collect();
    let longest = methods.iter().map(|id| id.as_str().len()).max();
    let column = COLUMN.max(longest.unwrap_or_default() + 2);
    let mut text = String::new();
    let mut line = |label: &str, cells: Vec<String>| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("{cell:<column$}"))
            .collect();
        let line = format!("{label:<LABEL$}{cells}");
        writeln!(text, "{}", line.trim_end()).expect("writing to a string");
    };
    line("", methods.iter().map(ToString::to_string).collect());
    for (group, ids) in groups(run) {
        line("", Vec::new());
        line(&terminal(group), Vec::new());
        for id in ids {
            let cells = methods.iter().map(|method| cell(run, id, method));
            let name = id.split_once('/').map_or(id, |(_, name)| name);
            line(&format!("  {}", terminal(name)), cells.collect());
        }
    }
    line("", Vec::new());
    let share = |(passed, all): &(usize, usize)| match (passed * 100).checked_div(*all) {
        Some(share) => format!("{passed}/{all} {share}%"),
        None => "–".to_owned(),
    };
    for (label, scores) in scores(run, &methods) {
        line(label, scores.iter().map(share).collect());
    }
    text += "\n✔ unmodified  ◐ with the effort named  ✘ fails  ∅ cannot by design  – not run  ! not as expected\n";
    for probe in run.probes.iter().filter(|probe| probe.is_surprise()) {
        let foreseen = probe.foreseen.unwrap_or(Outcome::NotRun);
        writeln!(
            text,
            "! {} through {}: {}, where {foreseen} was expected",
            terminal(&probe.id),
            probe.method,
            probe.outcome()
        )
        .expect("writing to a string");
    }
    text
}

fn cell(run: &Run, id: &str, method: &MethodId) -> String {
    let Some(probe) = find(run, id, method) else {
        return String::new();
    };
    let outcome = probe.outcome();
    let effort = match outcome {
        Outcome::Configured => " configured",
        Outcome::Rewritten => " rewritten",
        _ => "",
    };
    let surprise = if probe.is_surprise() { " !" } else { "" };
    format!("{}{effort}{surprise}", mark(outcome))
}
