//! Measuring: calibration once, then blocks of cells in random order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::summary::summarise;
use super::{Crew, Engine, EngineError, Progress, cost};
use crate::clock::Stopwatch;
use crate::engine::record::Record;
use crate::event::Event;
use crate::measure::{Reading, WarmUp};
use crate::plan::{Handicap, Profile};
use crate::run::{Measurement, Run};
use crate::scenario::{LoadOrder, LoadSpec, Scenario, Shape, Workload};
use crate::stage::Stage;
use crate::validity;

/// The kind of a warning about a load that a method cannot carry by design.
const UNSUPPORTED: &str = "load-unsupported";

/// What goes with it.
const BY_DESIGN: &str = "it was tried, and fails by design; another method carries it";

/// The common rate of each scenario's open loops, in operations each second.
type Rates = BTreeMap<&'static str, f64>;

/// Measures all blocks and says whether every cell could be measured.
pub(super) async fn measure(
    engine: &Engine<'_>,
    stage: &Stage,
    (crews, scenarios): (&mut [Crew], &[&dyn Scenario]),
    workload: &Workload,
    record: &mut Record,
    progress: &mut Progress<'_>,
) -> Result<bool, EngineError> {
    slow_down(engine, crews, record).await?;
    engine
        .observer
        .on(&Event::Phase("finding the rate that every method carries"));
    let rates = calibrate(engine, (crews, scenarios), workload, record, progress).await;
    let mut whole = true;
    let profile = &engine.plan.profile;
    let measuring = Stopwatch::start();
    for block in 0..profile.most_blocks {
        if block >= profile.blocks {
            let widest = widest(&record.run);
            if widest <= profile.half_width || is_over(profile, measuring.elapsed(), block) {
                break;
            }
            let said = format!(
                "measuring, block {} of up to {}: the widest interval is ±{:.0}%",
                block + 1,
                profile.most_blocks,
                widest * 100.0
            );
            engine.observer.on(&Event::Phase(&said));
            progress.extend(engine.block(scenarios) * count(crews.len()));
        } else {
            let said = format!("measuring, block {} of {}", block + 1, profile.blocks);
            engine.observer.on(&Event::Phase(&said));
        }
        let order = engine.plan.order(block);
        for &scenario in scenarios {
            // One load by all methods, then the next: what is compared is measured within seconds.
            for load in scenario.loads() {
                for method in &order {
                    let Some(crew) = crews.iter_mut().find(|crew| crew.method == *method) else {
                        continue;
                    };
                    let mut cell = Cell {
                        engine,
                        stage,
                        workload,
                        record,
                        scenario,
                        block,
                        rate: rates.get(scenario.id()).copied(),
                    };
                    whole &= cell.run(crew, load).await;
                    progress.spent(profile.expected(load));
                }
            }
            // A run that is killed has its figures too.
            record.run.summary = summarise(&record.run.measurements);
            record.save()?;
        }
    }
    Ok(whole)
}

/// Handicaps a method, where that was asked for, and says so beside the figures.
async fn slow_down(
    engine: &Engine<'_>,
    crews: &mut [Crew],
    record: &mut Record,
) -> Result<(), EngineError> {
    let Some(Handicap { method, delay }) = &engine.plan.handicap else {
        return Ok(());
    };
    for crew in crews.iter_mut().filter(|crew| crew.method == *method) {
        crew.handicap(*delay).await.map_err(EngineError::Handicap)?;
        let text = format!(
            "a relay on the laptop of `{method}` held each answer over TCP back for {} µs, on purpose",
            delay.as_micros()
        );
        engine.warn(record, "handicap", text, "leave `--handicap` out");
    }
    Ok(())
}

/// Half the width of the widest interval among the figures that gate, as a share.
fn widest(run: &Run) -> f64 {
    validity::gated(&run.summary)
        .map(validity::half_width)
        .fold(0.0, f64::max)
}

/// Whether another block would not end within the budget.
fn is_over(profile: &Profile, spent: Duration, blocks: u32) -> bool {
    let a_block = spent / blocks.max(1);
    profile
        .budget
        .is_some_and(|budget| spent + a_block > budget)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Finds each scenario's common rate: a share of what the weakest method carried in a closed loop.
async fn calibrate(
    engine: &Engine<'_>,
    (crews, scenarios): (&mut [Crew], &[&dyn Scenario]),
    workload: &Workload,
    record: &mut Record,
    progress: &mut Progress<'_>,
) -> Rates {
    let profile = &engine.plan.profile;
    let mut rates = Rates::new();
    // Each laptop's generator carries its own part of the rate.
    #[expect(clippy::cast_precision_loss, reason = "there are few laptops")]
    let most = profile.most_requests_per_s * engine.laptops_each() as f64;
    for &scenario in scenarios {
        let Some(load) = scenario
            .loads()
            .iter()
            .find(|load| load.shape == Shape::Closed)
        else {
            continue;
        };
        let mut weakest = most / profile.rate_share;
        for crew in &mut *crews {
            let order = order(
                load,
                None,
                profile.warm_up,
                profile.calibration,
                engine.plan.seed,
            );
            if let Ok(readings) = crew.measure(scenario, &order, workload).await {
                let carried = readings
                    .iter()
                    .filter(|reading| reading.invalid_reason.is_none());
                weakest = carried.map(|reading| reading.value).fold(weakest, f64::min);
            }
            note_interruptions(crew, scenario, load, record).await;
            progress.spent(profile.warm_up + profile.calibration);
        }
        rates.insert(
            scenario.id(),
            (weakest * profile.rate_share).floor().max(1.0),
        );
    }
    rates
}

/// Lets the method recover from a load, so that the next begins as it should, and notes what happened.
async fn note_interruptions(
    crew: &mut Crew,
    scenario: &dyn Scenario,
    load: &LoadSpec,
    record: &mut Record,
) {
    if let Ok(Some(found)) = crew.interruptions().await {
        let during = format!("{} {}", scenario.id(), load.id);
        record.interrupted(&crew.method, &during, found);
    }
}

fn order(
    load: &LoadSpec,
    rate: Option<f64>,
    warm_up: Duration,
    window: Duration,
    seed: u64,
) -> LoadOrder {
    LoadOrder {
        load: load.id.to_owned(),
        connections: load.connections,
        rate,
        warm_up: WarmUp::UpTo(warm_up),
        window,
        seed,
    }
}

/// How many operations a load carried in all, where `counted` were in its window: an open loop keeps its
/// rate from the first moment of the warm-up.
fn with_warm_up(counted: u64, order: &LoadOrder) -> u64 {
    let whole = (order.warm_up.longest() + order.window).as_micros();
    let all = u128::from(counted) * whole / order.window.as_micros().max(1);
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// One method × scenario × block, while it is measured.
struct Cell<'a, 'b> {
    engine: &'a Engine<'b>,
    stage: &'a Stage,
    workload: &'a Workload,
    record: &'a mut Record,
    scenario: &'a dyn Scenario,
    block: u32,
    rate: Option<f64>,
}

impl Cell<'_, '_> {
    /// Runs one load and takes its figures in; says whether it could be run.
    async fn run(&mut self, crew: &mut Crew, load: &LoadSpec) -> bool {
        let profile = &self.engine.plan.profile;
        let rate = self.rate.filter(|_| load.shape == Shape::Open);
        let order = order(
            load,
            rate,
            profile.warm_up,
            profile.window_of(load),
            self.engine.plan.seed ^ u64::from(self.block),
        );
        // What it costs is read where all methods carry the same: at the common rate.
        let costed = match self.engine.repertoire.method(&crew.method) {
            Some(method) if load.shape == Shape::Open => {
                Some((method, cost::read(self.stage, method, crew).await))
            }
            _ => None,
        };
        let outcome = crew.measure(self.scenario, &order, self.workload).await;
        note_interruptions(crew, self.scenario, load, self.record).await;
        match outcome {
            Ok(mut readings) => {
                if let Some((method, before)) = costed {
                    let after = cost::read(self.stage, method, crew).await;
                    let counted = readings.first().map_or(0, |reading| reading.count);
                    let operations = with_warm_up(counted, &order);
                    readings.extend(cost::between(before, after, operations));
                }
                self.take(crew, load, readings);
                true
            }
            Err(error) => {
                let text = format!(
                    "`{}` {} {}: {error}",
                    crew.method,
                    self.scenario.id(),
                    load.id
                );
                if let Some(limit) = self.limit(crew, load) {
                    self.engine.warn(
                        self.record,
                        UNSUPPORTED,
                        format!("{text} ({limit})"),
                        BY_DESIGN,
                    );
                    return true;
                }
                self.engine.warn(
                    self.record,
                    "cell-failed",
                    text,
                    "the cell is missing from the figures; see the probes for why",
                );
                false
            }
        }
    }

    /// Why the method does not carry what the load needs, where it does not.
    fn limit(&self, crew: &Crew, load: &LoadSpec) -> Option<&'static str> {
        let method = self.engine.repertoire.method(&crew.method)?;
        let needs = self.scenario.load_needs(load).iter();
        needs
            .filter(|need| !method.exposes().contains(need))
            .map(|need| method.limit(*need))
            .next()
    }

    fn take(&mut self, crew: &Crew, load: &LoadSpec, readings: Vec<Reading>) {
        let name = format!("`{}` {} {}", crew.method, self.scenario.id(), load.id);
        let limit = self.limit(crew, load);
        let mut taken = Vec::new();
        for reading in readings {
            if let Some(reason) = &reading.invalid_reason {
                let (kind, text, remedy) = match limit {
                    Some(limit) => (
                        UNSUPPORTED,
                        format!("{name}: {reason} ({limit})"),
                        BY_DESIGN,
                    ),
                    None => (
                        "invalid-cell",
                        format!("{name}: {reason}"),
                        "the figure is left out; a lower rate or a longer window may carry it",
                    ),
                };
                self.engine.warn(self.record, kind, text, remedy);
            } else {
                for (doubt, text) in &reading.doubts {
                    let text = format!("{name}: {text}");
                    self.engine
                        .warn(self.record, doubt.kind(), text, doubt.remedy());
                }
            }
            taken.push(Measurement {
                method: crew.method.clone(),
                scenario: self.scenario.id().to_owned(),
                metric: reading.metric,
                unit: reading.unit,
                block: self.block,
                access: self.scenario.effort(&crew.access()),
                count: reading.count,
                value: reading.value,
                p50: reading.p50,
                p90: reading.p90,
                p99: reading.p99,
                max: reading.max,
                errors: reading.errors,
                histogram: reading.histogram,
                valid: reading.invalid_reason.is_none(),
                invalid_reason: reading.invalid_reason,
            });
        }
        self.engine.observer.on(&Event::Measured {
            method: &crew.method,
            scenario: self.scenario.id(),
            load: load.id,
            block: self.block,
            measurements: &taken,
        });
        self.record.run.measurements.extend(taken);
    }
}
