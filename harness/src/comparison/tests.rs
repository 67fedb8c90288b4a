use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::access::Effort;
use crate::run::{ClusterInfo, Environment, Measurement, ProbeResult, RunInfo, Status, Verdict};

const TODAY: Date = date(2026, 11, 24);

/// A run whose blocks have these figures: method, metric, unit, values. The scenario is `http`.
fn run(cells: &[(&str, &str, Unit, &[f64])]) -> Run {
    let cluster = ClusterInfo {
        kind: "lab".into(),
        kubernetes: "v1".into(),
        cni: "bridge".into(),
        kube_proxy: "nftables".into(),
        nodes: 3,
    };
    let measurements = cells.iter().flat_map(|(method, metric, unit, values)| {
        let blocks = (0u32..).zip(*values);
        blocks.map(|(block, value)| Measurement::sample((method, metric, *unit), block, *value))
    });
    Run {
        schema_version: crate::run::SCHEMA_VERSION,
        run: RunInfo {
            id: "run".into(),
            status: Status::Complete,
            command: "inroads bench all".into(),
            profile: "standard".into(),
            seed: 1,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: None,
        },
        environment: Environment {
            inroads: "0.1.0".into(),
            build_profile: "optimised".into(),
            kernel: "6.18".into(),
            cpu: "cpu".into(),
            cores: 2,
            cluster,
            laptops: None,
            components: Vec::new(),
            comparable_key: "inroads 0.1.0 optimised; cpu x2; linux 6.18; lab v1".into(),
        },
        methods: Vec::new(),
        scenarios: Vec::new(),
        probes: Vec::new(),
        measurements: measurements.collect(),
        summary: Vec::new(),
        claims: Vec::new(),
        warnings: Vec::new(),
    }
}

const US: Unit = Unit::Microseconds;
const DIRECT: [f64; 6] = [100.0, 103.0, 98.0, 101.0, 99.0, 102.0];
const ROUTE: [f64; 6] = [200.0, 205.0, 197.0, 201.0, 199.0, 203.0];

fn latency(direct: &[f64], route: &[f64]) -> Run {
    run(&[
        ("direct", "latency", US, direct),
        ("route", "latency", US, route),
    ])
}

fn times(values: &[f64], by: f64) -> Vec<f64> {
    values.iter().map(|value| value * by).collect()
}

fn between(baseline: &Run, candidate: &Run) -> Comparison {
    let nothing = Acknowledgements::default();
    let baselines = std::slice::from_ref(baseline);
    Comparison::between((baselines, candidate), &Rules::default(), &nothing, TODAY)
}

fn of<'a>(comparison: &'a Comparison, method: &str) -> &'a Change {
    let mut all = comparison.changes.iter();
    all.find(|change| change.method.as_str() == method).unwrap()
}

#[test]
fn a_slower_method_is_a_regression_that_is_named() {
    let comparison = between(
        &latency(&DIRECT, &ROUTE),
        &latency(&DIRECT, &times(&ROUTE, 1.2)),
    );
    assert_eq!(comparison.decision, Decision::Regressed);
    let by = of(&comparison, "route").worsening.unwrap();
    assert!(
        (by.estimate - 1.2).abs() < 0.02 && by.low > 1.08 && by.high < 1.33,
        "{by:?}"
    );
    assert!(
        comparison.reasons[0].contains("route/http/latency is ×1.20 worse"),
        "{comparison:?}"
    );
}

#[test]
fn a_slower_machine_is_no_regression() {
    let slow = latency(&times(&DIRECT, 1.5), &times(&ROUTE, 1.5));
    let comparison = between(&latency(&DIRECT, &ROUTE), &slow);
    assert_eq!(comparison.decision, Decision::Pass, "{comparison:?}");
    assert_eq!(
        of(&comparison, "direct").found,
        Found::Worse,
        "it is shown, and advises"
    );
}

#[test]
fn a_rate_that_falls_is_worse_and_one_that_rises_better() {
    let rates = |by: f64| {
        let rate = Unit::PerSecond;
        let (direct, route) = (times(&DIRECT, 100.0), times(&ROUTE, 100.0 * by));
        run(&[
            ("direct", "requests", rate, &direct),
            ("route", "requests", rate, &route),
        ])
    };
    assert_eq!(
        of(&between(&rates(1.0), &rates(0.8)), "route").found,
        Found::Worse
    );
    let better = between(&rates(1.0), &rates(1.2));
    assert_eq!(
        (of(&better, "route").found, better.decision),
        (Found::Better, Decision::Pass)
    );
}

#[test]
fn a_change_below_the_floors_is_no_regression_however_sure() {
    let rules = Rules::read("spread = 0").unwrap();
    let slower = latency(&DIRECT, &times(&ROUTE, 1.045));
    let sure = Comparison::between(
        (&[latency(&DIRECT, &ROUTE)], &slower),
        &rules,
        &Acknowledgements::default(),
        TODAY,
    );
    assert!(of(&sure, "route").worsening.unwrap().adjusted < 0.05);
    assert_eq!(sure.decision, Decision::Pass);
    let tiny = latency(&times(&DIRECT, 0.1), &times(&ROUTE, 0.1));
    let slower = latency(&times(&DIRECT, 0.1), &times(&ROUTE, 0.12 / 1.1));
    assert_eq!(
        between(&tiny, &slower).decision,
        Decision::Pass,
        "below 3 µs"
    );
}

#[test]
fn what_is_missing_fails_closed() {
    let (whole, control) = (
        latency(&DIRECT, &ROUTE),
        run(&[("direct", "latency", US, &DIRECT)]),
    );
    for (a, b) in [(&whole, &control), (&control, &whole)] {
        let comparison = between(a, b);
        assert_eq!(comparison.decision, Decision::Incomplete, "{comparison:?}");
        assert_eq!(of(&comparison, "route").found, Found::Missing);
    }
    let short = latency(&DIRECT[..2], &ROUTE[..2]);
    assert_eq!(
        between(&whole, &short).decision,
        Decision::Inconclusive,
        "two blocks"
    );
    assert_eq!(
        between(&run(&[]), &run(&[])).decision,
        Decision::Incomplete,
        "nothing at all"
    );
}

#[test]
fn blocks_that_broke_are_not_forgotten() {
    let whole = latency(&DIRECT, &ROUTE);
    let broken = |count: usize| {
        let mut run = whole.clone();
        let of_route = |m: &&mut Measurement| m.method.as_str() == "route";
        let cells = run.measurements.iter_mut().filter(of_route);
        cells.take(count).for_each(|m| m.valid = false);
        run
    };
    let half = between(&whole, &broken(3));
    assert_eq!(half.decision, Decision::Inconclusive, "{half:?}");
    assert!(half.reasons[0].contains("3 of 6 blocks"), "{half:?}");
    assert_eq!(between(&whole, &broken(1)).decision, Decision::Pass);
    assert_eq!(between(&broken(3), &broken(3)).decision, Decision::Pass);
    assert_eq!(between(&broken(3), &whole).decision, Decision::Pass);
}

#[test]
fn without_the_control_nothing_is_cleared_and_nothing_accused() {
    let whole = latency(&DIRECT, &ROUTE);
    for by in [1.0, 1.3] {
        let alone = run(&[("route", "latency", US, &times(&ROUTE, by))]);
        let comparison = between(&whole, &alone);
        assert_eq!(of(&comparison, "route").found, Found::Unclear);
        assert_eq!(of(&comparison, "direct").found, Found::Missing);
        assert_eq!(comparison.decision, Decision::Inconclusive);
    }
    let odd = run(&[("route", "latency", US, &times(&ROUTE, 9.0))]);
    let nothing = Acknowledgements::default();
    let runs = [whole.clone(), odd];
    let comparison = Comparison::between((&runs, &whole), &Rules::default(), &nothing, TODAY);
    assert_eq!(
        comparison.decision,
        Decision::Pass,
        "a baseline without the control is left out: {comparison:?}"
    );
}

#[test]
fn of_many_cells_one_alone_must_be_worse_by_more() {
    let of_cells = |metrics: &[&str]| {
        let cells = metrics.iter().flat_map(|metric| {
            [
                ("direct", *metric, US, &DIRECT[..]),
                ("route", *metric, US, &ROUTE[..]),
            ]
        });
        let run = run(&cells.collect::<Vec<_>>());
        let comparison = between(&run, &run);
        of(&comparison, "route").worsening.unwrap().detectable
    };
    let (one, five) = (
        of_cells(&["latency"]),
        of_cells(&[
            "latency",
            "requests",
            "download",
            "upload",
            "new-connections",
        ]),
    );
    assert!(one > 1.05 && five > one + 0.01, "{one} and {five}");
}

#[test]
fn an_interval_that_rules_nothing_out_is_unclear() {
    let wild = [100.0, 900.0, 150.0, 400.0, 120.0, 700.0];
    let comparison = between(&latency(&DIRECT, &ROUTE), &latency(&DIRECT, &wild));
    assert_eq!(of(&comparison, "route").found, Found::Unclear);
    assert_eq!(comparison.decision, Decision::Inconclusive);
}

#[test]
fn a_regression_is_confirmed_by_a_second_measurement_or_is_none() {
    let rules = Rules::default();
    let baseline = latency(&DIRECT, &ROUTE);
    let slow = between(&baseline, &latency(&DIRECT, &times(&ROUTE, 1.2)));
    let (methods, scenarios) = slow.suspects();
    assert_eq!((methods.len(), scenarios.len()), (1, 1));

    let mut twice = slow.clone();
    twice.confirm(&slow, &rules);
    assert_eq!(twice.decision, Decision::Regressed);

    let mut once = slow.clone();
    once.confirm(&between(&baseline, &baseline), &rules);
    assert_eq!(
        (of(&once, "route").found, once.decision),
        (Found::NotConfirmed, Decision::Pass)
    );

    // Large again, and as large as the first for all that is known: it is not cleared.
    let wild: Vec<f64> = ROUTE
        .iter()
        .zip([0.8, 1.6, 0.9, 1.5, 1.0, 1.4])
        .map(|(value, by)| value * by)
        .collect();
    let mut open = slow.clone();
    open.confirm(&between(&baseline, &latency(&DIRECT, &wild)), &rules);
    assert_eq!(
        (of(&open, "route").found, open.decision),
        (Found::Unclear, Decision::Inconclusive)
    );

    let mut lost = slow.clone();
    lost.confirm(&between(&baseline, &run(&[])), &rules);
    assert_eq!(
        lost.decision,
        Decision::Inconclusive,
        "trouble of the harness is no regression"
    );
}

#[test]
fn what_is_acknowledged_passes_until_its_day() {
    let file = "[[acknowledge]]\nwhat = 'route/http/*'\nby = 'ada'\nreason = 'new path'\nuntil = '2026-11-24'";
    let accepted = Acknowledgements::read(file).unwrap();
    let (a, b) = (
        [latency(&DIRECT, &ROUTE)],
        latency(&DIRECT, &times(&ROUTE, 1.2)),
    );
    let on = |day| Comparison::between((&a, &b), &Rules::default(), &accepted, day);
    let today = on(TODAY);
    assert_eq!(
        (of(&today, "route").found, today.decision),
        (Found::Acknowledged, Decision::Pass)
    );
    let tomorrow = on(date(2026, 11, 25));
    assert_eq!(tomorrow.decision, Decision::Regressed);
    assert!(
        tomorrow.reasons[0].contains("ended on 2026-11-24"),
        "{:?}",
        tomorrow.reasons
    );
}

fn probe(verdict: Verdict, level: Level) -> ProbeResult {
    ProbeResult {
        id: "dns/srv".into(),
        method: "route".parse().unwrap(),
        level,
        verdict,
        effort: (verdict == Verdict::Pass).then_some(Effort::Unmodified),
        foreseen: None,
        expected: String::new(),
        seen: "NXDOMAIN".into(),
        reason: None,
        duration_ms: 1.0,
    }
}

#[test]
fn a_required_verdict_that_changes_is_found_and_a_probe_that_is_gone_too() {
    let with = |probes: Vec<ProbeResult>| {
        let mut run = latency(&DIRECT, &ROUTE);
        run.probes = probes;
        run
    };
    let (pass, fail) = (
        probe(Verdict::Pass, Level::Must),
        probe(Verdict::Fail, Level::Must),
    );
    let changed = between(&with(vec![pass.clone()]), &with(vec![fail.clone()]));
    assert_eq!(changed.decision, Decision::VerdictChanged);
    assert!(changed.reasons[0].contains("dns/srv through route was unmodified and is fail"));
    let not_run = probe(Verdict::NotRun, Level::Must);
    for gone in [vec![], vec![not_run.clone()]] {
        let gone = between(&with(vec![pass.clone()]), &with(gone));
        assert_eq!(gone.decision, Decision::Incomplete);
        assert!(gone.reasons[0].contains("is not asked"), "{gone:?}");
    }
    let at_last = between(&with(vec![not_run.clone()]), &with(vec![pass.clone()]));
    assert_eq!(
        at_last.decision,
        Decision::Pass,
        "what was not asked says nothing"
    );
    let same = between(&with(vec![fail.clone()]), &with(vec![fail]));
    assert_eq!(same.decision, Decision::Pass);
    let should = between(
        &with(vec![probe(Verdict::Pass, Level::Should)]),
        &with(vec![]),
    );
    assert_eq!(should.decision, Decision::Pass, "only required probes gate");
}

#[test]
fn runs_that_cannot_be_compared_say_in_what_they_differ() {
    let (a, mut b) = (latency(&DIRECT, &ROUTE), latency(&DIRECT, &ROUTE));
    assert_eq!(differences(&a, &b), Vec::<String>::new());
    b.environment.comparable_key =
        "inroads 0.1.0 optimised; other x2; linux 6.18; lab v1; 3 laptops".into();
    b.run.profile = "quick".into();
    let found = differences(&a, &b);
    assert_eq!(
        found,
        [
            "processor: `cpu x2` and `other x2`",
            "laptops: `none` and `3 laptops`",
            "profile: `standard` and `quick`"
        ]
    );
}

/// Runs with nothing changed, whose blocks scatter by a few percent.
fn nights() -> Vec<Run> {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut around = |middle: f64| -> Vec<f64> {
        let blocks = 0..10;
        blocks
            .map(|_| middle * random.random_range(0.96..1.04))
            .collect()
    };
    (0..4)
        .map(|_| latency(&around(100.0), &around(200.0)))
        .collect()
}

#[test]
fn simulated_nights_raise_no_alarm_where_nothing_changed_and_find_what_did() {
    let (runs, rules) = (nights(), Rules::default());
    let nights = Nights::of(&runs, &rules).unwrap();
    assert_eq!(nights.cells(), 1);
    assert!(nights.spread() < 0.02, "{}", nights.spread());
    let moved: Vec<Run> = runs
        .iter()
        .zip([0.9, 1.0, 1.1, 1.0])
        .map(|(run, by)| {
            let mut run = run.clone();
            let of_route = |m: &&mut Measurement| m.method.as_str() == "route";
            run.measurements
                .iter_mut()
                .filter(of_route)
                .for_each(|m| m.value *= by);
            run
        })
        .collect();
    let spread = Nights::of(&moved, &rules).unwrap().spread();
    assert!(
        (0.06..0.1).contains(&spread),
        "whole runs move by 8%: {spread}"
    );
    let route = MethodId::of("route");
    let judged = |baselines, worse| nights.judged(Night { baselines, worse }, 200, 7);
    let quiet = judged(1, None);
    assert_eq!((quiet.nights, quiet.confirmed), (200, 0), "{quiet:?}");
    let slow = judged(1, Some((&route, 1.2)));
    assert!(
        slow.confirmed > 190 && slow.confirmed <= slow.first,
        "{slow:?}"
    );
    let smallest = |baselines| nights.smallest((&route, baselines), 0.8, (100, 7)).unwrap();
    let (one, four) = (smallest(1), smallest(4));
    assert!((8..=18).contains(&one), "{one}%");
    assert!(four < one, "{four}% with four baselines, {one}% with one");
    assert!(Nights::of(&runs[..1], &rules).is_none());
}

#[test]
fn several_baselines_see_smaller_changes_and_show_how_much_a_run_moves() {
    let runs = nights();
    let slower = latency(&DIRECT, &times(&ROUTE, 1.09));
    let against = |baselines: &[Run]| {
        let nothing = Acknowledgements::default();
        Comparison::between((baselines, &slower), &Rules::default(), &nothing, TODAY)
    };
    let (one, four) = (against(&runs[..1]), against(&runs));
    assert_eq!((one.baselines.len(), four.baselines.len()), (1, 4));
    assert!((one.spread - Rules::default().spread).abs() < 1e-12);
    assert!(four.spread < one.spread, "{}", four.spread);
    let low = |comparison: &Comparison| of(comparison, "route").worsening.unwrap().low;
    assert!(low(&four) > low(&one), "{} and {}", low(&four), low(&one));
    assert_eq!(four.decision, Decision::Regressed, "{four:?}");
    let restless: Vec<Run> = (0u8..4)
        .map(|night| latency(&DIRECT, &times(&ROUTE, 1.0 + 0.1 * f64::from(night))))
        .collect();
    let unsure = against(&restless);
    assert!(unsure.spread > 0.05, "{}", unsure.spread);
    assert_eq!(unsure.decision, Decision::Pass, "{unsure:?}");
}

#[test]
fn verdicts_are_held_against_the_latest_baseline() {
    let at = |day: i64, verdict: Verdict| {
        let mut run = latency(&DIRECT, &ROUTE);
        run.run.started_at = jiff::Timestamp::from_second(day * 86_400).unwrap();
        run.probes = vec![probe(verdict, Level::Must)];
        run
    };
    let earlier = [at(2, Verdict::Pass), at(1, Verdict::Fail)];
    let judged = |verdict| {
        let nothing = Acknowledgements::default();
        Comparison::between(
            (&earlier, &at(3, verdict)),
            &Rules::default(),
            &nothing,
            TODAY,
        )
    };
    assert_eq!(judged(Verdict::Pass).decision, Decision::Pass);
    assert_eq!(judged(Verdict::Fail).decision, Decision::VerdictChanged);
    let gap = [at(2, Verdict::NotRun), at(1, Verdict::Pass)];
    let nothing = Acknowledgements::default();
    let failing = at(3, Verdict::Fail);
    let comparison = Comparison::between((&gap, &failing), &Rules::default(), &nothing, TODAY);
    assert_eq!(
        comparison.decision,
        Decision::VerdictChanged,
        "against when it was asked last"
    );
}

proptest! {
    #[test]
    fn a_run_against_itself_always_passes(route in prop::collection::vec(100.0..130.0f64, 6)) {
        let run = latency(&DIRECT, &route);
        let comparison = between(&run, &run);
        prop_assert_eq!(comparison.decision, Decision::Pass);
    }

    #[test]
    fn what_is_worse_one_way_is_never_worse_the_other(
        a in prop::collection::vec(100.0..300.0f64, 6),
        b in prop::collection::vec(100.0..300.0f64, 6),
    ) {
        let (a, b) = (latency(&DIRECT, &a), latency(&DIRECT, &b));
        let worse = |comparison: &Comparison| of(comparison, "route").found == Found::Worse;
        prop_assert!(!(worse(&between(&a, &b)) && worse(&between(&b, &a))));
    }
}
