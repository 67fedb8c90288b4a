//! `inroads selftest`: how good the gate is on this machine.
//!
//! It measures one method several times with nothing changed, and then with each answer held back by a share of its
//! latency. What the gate says to the former is a false alarm, what it misses of the latter a blind spot. From the
//! blocks of the unchanged runs it makes as many nights as are asked for.

use std::fmt::Write as _;
use std::time::Duration;

use inroads_harness::comparison::{
    Acknowledgements, Alarms, Comparison, Decision, Found, Night, Nights, Rules,
};
use inroads_harness::engine::new_run_id;
use inroads_harness::ids::MethodId;
use inroads_harness::plan::{Handicap, Plan, Profile};
use inroads_harness::run::{CONTROL, Run};
use inroads_harness::stats::median;
use inroads_reports::figures::{figure, ratio};
use serde::Serialize;

use super::gate::today;
use super::measuring::Measuring;
use super::{print, report};
use crate::agents::repertoire;
use crate::cli::Selftest;
use crate::exit::Exit;

/// What is held back, as shares of the method's latency in percent.
const INJECTED: [u32; 3] = [5, 10, 20];

/// Nights for each step of the search for the smallest slowdown that is found.
const NIGHTS_OF_SEARCH: u32 = 100;

/// The share of nights in which a slowdown must be found to count as seen.
const SEEN: f64 = 0.8;

/// The scenario and metric whose size is known: every answer takes longer by what it is held back for.
const KNOWN: (&str, &str) = ("http", "latency");

/// Runs it.
pub(crate) async fn run(arguments: Selftest) -> Exit {
    match try_run(&arguments).await {
        Ok(exit) | Err(exit) => exit,
    }
}

async fn try_run(arguments: &Selftest) -> Result<Exit, Exit> {
    let rules = super::gate::rules(arguments.rules.as_deref())?;
    let method: MethodId = arguments.method.parse().map_err(Exit::usage)?;
    let (runs, injected) = if arguments.from.is_empty() {
        measure(arguments, &method, &rules).await?
    } else {
        let runs: anyhow::Result<Vec<Run>> = arguments
            .from
            .iter()
            .map(|path| report::read(path))
            .collect();
        (runs.map_err(Exit::usage)?, Vec::new())
    };
    let (first, others) = runs.split_first().ok_or_else(none)?;
    let hint = "name runs of one place, with nothing changed between them";
    report::comparable(others, first, hint).map_err(Exit::NotComparable)?;
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let nights = Nights::of(&runs, &rules).ok_or_else(none)?;
    let methods = first.methods.iter().map(|it| &it.id);
    let methods: Vec<&MethodId> = methods.filter(|id| id.as_str() != CONTROL).collect();
    let simulated = [1, arguments.baselines].map(|baselines| {
        let judged = |worse: Option<(&MethodId, f64)>| {
            let night = Night { baselines, worse };
            nights.judged(night, arguments.nights, seed)
        };
        let slowed = |method: &&MethodId| {
            let by = |percent: u32| {
                let factor = 1.0 + f64::from(percent) / 100.0;
                (percent, judged(Some((*method, factor))))
            };
            let search = (NIGHTS_OF_SEARCH, seed);
            Slowed {
                method: (*method).clone(),
                nights: INJECTED.map(by).to_vec(),
                smallest: nights.smallest((method, baselines), SEEN, search),
            }
        };
        Simulated {
            baselines,
            quiet: judged(None),
            slowed: methods.iter().map(slowed).collect(),
        }
    });
    let found = Findings {
        environment: first.environment.comparable_key.clone(),
        runs: runs.iter().map(|run| run.run.id.clone()).collect(),
        profile: first.run.profile.clone(),
        seed,
        cells: nights.cells(),
        spread: nights.spread(),
        allowed: rules.spread,
        level: rules.level,
        real: real(&runs, &rules),
        injected,
        simulated,
    };
    let text = if arguments.json {
        serde_json::to_string(&found).map_err(Exit::failed)? + "\n"
    } else {
        found.text()
    };
    print(&text).map_err(Exit::failed)?;
    Ok(if found.is_sound() {
        Exit::Success
    } else {
        Exit::Unwell
    })
}

fn none() -> Exit {
    Exit::usage(anyhow::anyhow!("it takes two runs at least"))
}

/// Measures with nothing changed, and with answers held back.
async fn measure(
    arguments: &Selftest,
    method: &MethodId,
    rules: &Rules,
) -> Result<(Vec<Run>, Vec<Injected>), Exit> {
    let repertoire = repertoire();
    let methods = [CONTROL.to_owned(), arguments.method.clone()];
    let scenarios = [KNOWN.0.to_owned()];
    let selected = Plan::select(&repertoire, &methods, &[], &scenarios);
    let (methods, scenarios) = selected.map_err(Exit::usage)?;
    if method.as_str() == CONTROL {
        return Err(Exit::usage(anyhow::anyhow!(
            "`{CONTROL}` is what others are held against\n(hint: name a method, such as `route`)"
        )));
    }
    let measuring = Measuring::begin(&repertoire, &arguments.cluster)?;
    let progress = &measuring.progress;
    let plan = |delay: Duration, seed: u64| -> Result<Plan, Exit> {
        let mut profile = Profile::named(&arguments.profile).map_err(Exit::usage)?;
        // All runs have the same number of blocks.
        profile.most_blocks = profile.blocks;
        Ok(Plan {
            methods: methods.clone(),
            scenarios: scenarios.clone(),
            probes: std::collections::BTreeSet::new(),
            loads: true,
            profile,
            seed,
            reversed: false,
            handicap: Some(Handicap {
                method: method.clone(),
                delay,
            }),
            namespace: arguments.cluster.namespace.clone(),
            command: super::bench::command_line(),
        })
    };
    let total = usize::from(arguments.runs) + INJECTED.len();
    let carry_out = async |number: usize, delay: Duration| -> Result<Run, Exit> {
        let held = delay.as_secs_f64() * 1e6;
        progress.say(&format!(
            "selftest: run {number} of {total}, answers held back for {held:.1} µs"
        ));
        let plan = plan(delay, u64::try_from(number).unwrap_or_default())?;
        let id = new_run_id();
        let run = measuring
            .carry_out(&plan, &id, &arguments.out.join(&id))
            .await?;
        if measuring.interrupted.is_cancelled() {
            return Err(Exit::Interrupted);
        }
        Ok(run)
    };
    let mut runs = Vec::new();
    for number in 1..=usize::from(arguments.runs) {
        runs.push(carry_out(number, Duration::ZERO).await?);
    }
    let latencies: Vec<f64> = runs.iter().filter_map(|run| latency(run, method)).collect();
    let Some(latency) = median(&latencies) else {
        return Err(Exit::failed(anyhow::anyhow!(
            "`{method}` has no valid latency in any run; see the warnings in run.json"
        )));
    };
    let mut injected = Vec::new();
    for (index, percent) in INJECTED.into_iter().enumerate() {
        let delay = Duration::from_secs_f64(latency * 1e-6 * f64::from(percent) / 100.0);
        let run = carry_out(runs.len() + 1 + index, delay).await?;
        // In both directions: as the worse run, and as the baseline that another is better than.
        let against = |a: &[Run], b: &Run| {
            Comparison::between((a, b), rules, &Acknowledgements::default(), today())
        };
        let known = |comparison: &Comparison| {
            let name = format!("{method}/{}/{}", KNOWN.0, KNOWN.1);
            comparison
                .changes
                .iter()
                .find(|change| change.name() == name)
                .cloned()
        };
        let slowed = std::slice::from_ref(&run);
        let (there, back) = (against(&runs, &run), against(slowed, &runs[0]));
        let worsening = known(&there).and_then(|change| change.worsening);
        injected.push(Injected {
            percent,
            delay_us: delay.as_secs_f64() * 1e6,
            latency_us: latency,
            measured: worsening.map(|by| by.estimate),
            low: worsening.map(|by| by.low),
            high: worsening.map(|by| by.high),
            found: known(&there).is_some_and(|change| change.found == Found::Worse),
            better_back: known(&back).is_some_and(|change| change.found == Found::Better),
            run: run.run.id,
        });
    }
    progress.end();
    Ok((runs, injected))
}

/// The median latency of the known cell, in microseconds.
fn latency(run: &Run, method: &MethodId) -> Option<f64> {
    let mut lines = run.summary.iter();
    let line = lines
        .find(|it| it.method == *method && (it.scenario.as_str(), it.metric.as_str()) == KNOWN)?;
    Some(line.median)
}

/// Holds each run against each later one, and each against all the others.
fn real(runs: &[Run], rules: &Rules) -> [Real; 2] {
    let judged = |baselines: &[Run], candidate: &Run| {
        let accepted = Acknowledgements::default();
        let comparison = Comparison::between((baselines, candidate), rules, &accepted, today());
        let what = comparison.reasons.join("; ");
        let alarm = comparison.decision == Decision::Regressed;
        alarm.then(|| format!("{}: {what}", candidate.run.id))
    };
    let (mut pairs, mut others) = (Real::default(), Real::default());
    for (index, run) in runs.iter().enumerate() {
        for candidate in &runs[index + 1..] {
            pairs.add(judged(std::slice::from_ref(run), candidate));
        }
        let rest = [&runs[..index], &runs[index + 1..]].concat();
        others.add(judged(&rest, run));
    }
    [pairs, others]
}

/// What a selftest found.
#[derive(Debug, Serialize)]
struct Findings {
    environment: String,
    runs: Vec<String>,
    profile: String,
    seed: u64,
    cells: usize,
    /// By how much a run as a whole moves, beyond what its blocks show.
    spread: f64,
    /// What the rules allow for.
    allowed: f64,
    /// The share of nights that may be false alarms.
    level: f64,
    /// Each run against each later one, and against all the others.
    real: [Real; 2],
    injected: Vec<Injected>,
    /// With one run as the baseline, and with several.
    simulated: [Simulated; 2],
}

/// What the gate said of real runs with nothing changed.
#[derive(Debug, Default, Serialize)]
struct Real {
    judged: usize,
    alarms: Vec<String>,
}

impl Real {
    fn add(&mut self, alarm: Option<String>) {
        self.judged += 1;
        self.alarms.extend(alarm);
    }
}

/// What it said in nights made of their blocks.
#[derive(Debug, Serialize)]
struct Simulated {
    /// Runs in the baseline.
    baselines: u8,
    /// With nothing changed.
    quiet: Alarms,
    slowed: Vec<Slowed>,
}

/// What came of answers that were really held back.
#[derive(Debug, Serialize)]
struct Injected {
    percent: u32,
    delay_us: f64,
    latency_us: f64,
    measured: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    found: bool,
    better_back: bool,
    run: String,
}

/// What came of nights in which all figures of a method were made worse.
#[derive(Debug, Serialize)]
struct Slowed {
    method: MethodId,
    nights: Vec<(u32, Alarms)>,
    smallest: Option<u32>,
}

impl Findings {
    /// Whether the gate can be trusted: false alarms no more often than it may have them, and eyes for something.
    fn is_sound(&self) -> bool {
        let [_, several] = &self.simulated;
        let Alarms {
            nights, confirmed, ..
        } = several.quiet;
        let silent = f64::from(confirmed) <= self.level * f64::from(nights);
        let sees = several.slowed.iter().any(|it| it.smallest.is_some());
        silent && sees && self.injected.last().is_none_or(|it| it.found)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "Selftest of the gate: {}", self.environment)?;
        writeln!(
            text,
            "{} runs, {}, {} cells that gate; seed {}\n",
            self.runs.len(),
            self.profile,
            self.cells,
            self.seed
        )?;
        writeln!(text, "With nothing changed")?;
        let [pairs, others] = &self.real;
        for (real, what) in [
            (pairs, "pairs of runs"),
            (others, "runs, each against all the others"),
        ] {
            let Real { judged, alarms } = real;
            writeln!(text, "  of {judged} {what}, an alarm in {}", alarms.len())?;
            for alarm in alarms {
                writeln!(text, "    {alarm}")?;
            }
        }
        let (spread, allowed) = (self.spread * 100.0, self.allowed * 100.0);
        writeln!(
            text,
            "  a run as a whole moves by {spread:.1}%; with fewer than three baselines the rules allow for {allowed:.1}%"
        )?;
        if self.spread > self.allowed {
            writeln!(
                text,
                "    (hint: a file for `--rules` with `spread = {:.3}` allows for it)",
                self.spread
            )?;
        }
        if let Some(known) = self.injected.first() {
            let latency = figure(known.latency_us, inroads_harness::run::Unit::Microseconds);
            writeln!(
                text,
                "\nEach answer held back by a relay: {}/{}, {latency} without",
                KNOWN.0, KNOWN.1
            )?;
            for it in &self.injected {
                let by = it.measured.zip(it.low.zip(it.high));
                let by = by.map(|(by, (low, high))| {
                    format!("{} ({} to {})", ratio(by), ratio(low), ratio(high))
                });
                let by = by.unwrap_or_else(|| "not measured".to_owned());
                let found = if it.found { "found" } else { "not found" };
                let back = if it.better_back {
                    "found better"
                } else {
                    "not found better"
                };
                writeln!(
                    text,
                    "  +{:>2}%, {:>5.1} µs   measured {by:<24} {found}; the other way round: {back}",
                    it.percent, it.delay_us
                )?;
            }
        }
        for simulated in &self.simulated {
            simulated.write(text)?;
        }
        Ok(())
    }
}

impl Simulated {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Alarms {
            nights,
            first,
            confirmed,
            unclear,
        } = self.quiet;
        let runs = match self.baselines {
            1 => "one run".to_owned(),
            several => format!("{several} runs"),
        };
        writeln!(text, "\n{nights} simulated nights, a baseline of {runs}")?;
        writeln!(
            text,
            "  nothing changed: an alarm in {first}, with --confirm in {confirmed}; inconclusive in {unclear}"
        )?;
        writeln!(
            text,
            "  all figures of a method made worse, with --confirm:"
        )?;
        for it in &self.slowed {
            write!(text, "    {:<12}", it.method)?;
            for (percent, alarms) in &it.nights {
                let share = 100.0 * f64::from(alarms.confirmed) / f64::from(alarms.nights);
                write!(text, "  +{percent}% found in {share:.0}%")?;
            }
            match it.smallest {
                Some(percent) => writeln!(text, "; in four of five from +{percent}% on")?,
                None => writeln!(text, "; not even +100% in four of five")?,
            }
        }
        Ok(())
    }
}
