//! The gate from outside: runs of one machine, with nothing changed and with one method slowed down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::program::{Ended, Program, turn};

/// The control and one method, one scenario, one probe. The relay that can hold answers back is there in all of them.
const BENCH: [&str; 11] = [
    "bench",
    "direct",
    "route",
    "--scenario",
    "http",
    "--probe",
    "fidelity/http",
    "--profile",
    "quick",
    "--seed",
    "7",
];

/// As it is, and so much slower that no noise hides it.
const AS_IT_IS: &str = "route=0us";
const SLOW: &str = "route=300us";

/// The cell that must be named.
const CELL: &str = "route/http/latency";

fn bench(program: &Program, handicap: &str, more: &[&str]) -> (Ended, PathBuf) {
    let before = program.runs();
    let mut arguments = BENCH.to_vec();
    arguments.extend(["--handicap", handicap]);
    arguments.extend(more);
    let ended = program.run(&arguments);
    let mut new = program.runs();
    new.retain(|run| !before.contains(run));
    assert_eq!(new.len(), 1, "{}", ended.err);
    (ended, new.remove(0))
}

fn gate(program: &Program, baseline: &Path, candidate: &Path, more: &[&str]) -> Ended {
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let (baseline, candidate) = (name(baseline), name(candidate));
    let mut arguments = vec!["gate", "--baseline", &baseline, &candidate];
    arguments.extend(more);
    program.run(&arguments)
}

#[test]
fn a_slower_method_turns_the_gate_red_and_nothing_else_does() {
    let _turn = turn();
    let program = Program::new().patient(Duration::from_secs(180));
    let (ended, before) = bench(&program, AS_IT_IS, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let (_, after) = bench(&program, AS_IT_IS, &[]);
    let (_, slow) = bench(&program, SLOW, &[]);
    let run: Value =
        serde_json::from_str(&fs::read_to_string(slow.join("run.json")).unwrap()).unwrap();
    let warned =
        |warning: &Value| warning["kind"] == "handicap" && warning.to_string().contains("300 µs");
    assert!(
        run["warnings"].as_array().unwrap().iter().any(warned),
        "nobody takes it for a real one"
    );

    // Three blocks on a busy machine may be unclear, and are then no alarm.
    let quiet = gate(&program, &before, &after, &["--inconclusive", "pass"]);
    assert_eq!(quiet.code, Some(0), "{}", quiet.out);

    let red = gate(&program, &before, &slow, &[]);
    assert_eq!(red.code, Some(3), "{}{}", red.out, red.err);
    assert!(red.out.contains(CELL), "{}", red.out);
    let back = gate(&program, &slow, &before, &["--inconclusive", "pass"]);
    assert_eq!(
        back.code,
        Some(0),
        "a method that became faster: {}",
        back.out
    );

    several_runs_are_one_baseline(&program, &before, &after, &slow);

    // The second measurement is of the method as it is.
    let again = gate(
        &program,
        &before,
        &slow,
        &[
            "--confirm",
            "--inconclusive",
            "pass",
            "--write",
            "judged.json",
        ],
    );
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.err);
    let judged: Value =
        serde_json::from_str(&fs::read_to_string(program.home().join("judged.json")).unwrap())
            .unwrap();
    let cell = judged["changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["metric"] == "latency" && it["method"] == "route");
    assert_eq!(cell.unwrap()["found"], "not-confirmed", "{judged}");
    assert!(slow.join("again/run.json").exists(), "it can be looked at");

    let file = program.home().join("acknowledged.toml");
    let entry = |until: &str| {
        format!(
            "[[acknowledge]]\nwhat = 'route/*'\nby = 'ada'\nreason = 'on purpose'\nuntil = '{until}'\n"
        )
    };
    let accepted = [
        "--inconclusive",
        "pass",
        "--acknowledged",
        "acknowledged.toml",
    ];
    fs::write(&file, entry("2999-12-31")).unwrap();
    assert_eq!(gate(&program, &before, &slow, &accepted).code, Some(0));
    fs::write(&file, entry("2020-01-01")).unwrap();
    let expired = gate(&program, &before, &slow, &accepted);
    assert_eq!(expired.code, Some(3));
    assert!(expired.out.contains("2020-01-01"), "{}", expired.out);

    one_job_measures_and_judges(&program, &before);
    what_cannot_be_compared_is_refused(&program, &before, &after);
}

fn several_runs_are_one_baseline(program: &Program, before: &Path, after: &Path, slow: &Path) {
    let baselines = program.home().join("baselines");
    for run in [before, after] {
        let folder = baselines.join(run.file_name().unwrap());
        fs::create_dir_all(&folder).unwrap();
        fs::copy(run.join("run.json"), folder.join("run.json")).unwrap();
    }
    let red = gate(program, &baselines, slow, &[]);
    assert_eq!(red.code, Some(3), "{}{}", red.out, red.err);
    let named = red.out.lines().filter(|line| line.starts_with("baseline "));
    assert_eq!(named.count(), 2, "{}", red.out);
    let also = slow.to_str().unwrap();
    let own = gate(program, &baselines, slow, &["--baseline", also]);
    assert_eq!(own.code, Some(5), "{}", own.out);
    assert!(own.err.contains("held against"), "{}", own.err);
    let empty = program.home().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let none = gate(program, &empty, slow, &[]);
    assert_eq!(none.code, Some(2), "{}", none.out);
    assert!(none.err.contains("has none in it"), "{}", none.err);
}

fn one_job_measures_and_judges(program: &Program, before: &Path) {
    let baseline = before.to_str().unwrap();
    let (ended, folder) = bench(program, SLOW, &["--baseline", baseline, "--confirm"]);
    assert_eq!(ended.code, Some(3), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains(CELL), "{}", ended.out);
    assert!(
        ended.err.contains("Measuring again, in reversed order"),
        "{}",
        ended.err
    );
    for file in [
        "run.json",
        "report.md",
        "report.html",
        "comparison.json",
        "again/run.json",
    ] {
        assert!(folder.join(file).exists(), "{file}");
    }
    let against = folder.join("comparison.json");
    let folder = folder.to_str().unwrap();
    let junit = program.ok(&[
        "report",
        folder,
        "--against",
        against.to_str().unwrap(),
        "--format",
        "junit",
    ]);
    assert!(
        junit.contains("<failure") && junit.contains(CELL),
        "{junit}"
    );
}

fn what_cannot_be_compared_is_refused(program: &Program, before: &Path, after: &Path) {
    let text = fs::read_to_string(after.join("run.json")).unwrap();
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut run: Value = serde_json::from_str(&text).unwrap();
        change(&mut run);
        let file = program.home().join("edited.json");
        fs::write(&file, run.to_string()).unwrap();
        file
    };
    let other = edited(&|run| {
        run["environment"]["comparable_key"] = "inroads 0.1.0 optimised; another cpu x64".into();
    });
    for more in [&[][..], &["--inconclusive", "pass"]] {
        let refused = gate(program, before, &other, more);
        assert_eq!(refused.code, Some(5), "{}", refused.out);
        assert!(
            refused.err.contains("processor: ") && refused.err.contains("another cpu x64"),
            "{}",
            refused.err
        );
        assert!(refused.err.contains("(hint: "), "{}", refused.err);
    }

    let lacking = edited(&|run| {
        let cells = run["measurements"].as_array_mut().unwrap();
        let others = |cell: &Value| cell["method"] != "route" || cell["metric"] != "latency";
        cells.retain(others);
        // What the file sums up must follow from what it holds.
        run["summary"].as_array_mut().unwrap().retain(others);
    });
    let missing = gate(program, before, &lacking, &[]);
    assert_eq!(missing.code, Some(5), "{}", missing.out);
    assert!(missing.out.contains(CELL), "{}", missing.out);

    let surprised = edited(&|run| {
        run["probes"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|probe| {
                probe["verdict"] = "fail".into();
                probe["effort"] = Value::Null;
            });
    });
    let changed = gate(program, before, &surprised, &["--inconclusive", "pass"]);
    assert_eq!(changed.code, Some(4), "{}", changed.out);
    assert!(changed.out.contains("fidelity/http"), "{}", changed.out);

    let nowhere = gate(program, Path::new("/nowhere"), after, &[]);
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.err);
    fs::write(program.home().join("rules.toml"), "level = 7").unwrap();
    let nonsense = gate(program, before, after, &["--rules", "rules.toml"]);
    assert_eq!(nonsense.code, Some(2), "{}", nonsense.err);
    assert!(nonsense.err.contains("`level` is 7"), "{}", nonsense.err);
}

#[test]
fn the_selftest_makes_nights_of_recorded_runs() {
    let _turn = turn();
    let program = Program::new().patient(Duration::from_secs(180));
    let ended = program.run(&[
        "selftest",
        "route",
        "--profile",
        "quick",
        "--runs",
        "2",
        "--nights",
        "20",
        "--seed",
        "1",
        "--json",
    ]);
    // Three blocks on a busy machine may not make a sound gate, which it says by its code.
    assert!(matches!(ended.code, Some(0 | 1)), "{}", ended.err);
    let found: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found["cells"], 5);
    for (simulated, baselines) in [(0, 1), (1, 4)] {
        let simulated = &found["simulated"][simulated];
        assert_eq!(simulated["baselines"], baselines, "{simulated}");
        assert_eq!(simulated["quiet"]["nights"], 20, "{simulated}");
    }
    assert_eq!(found["injected"].as_array().unwrap().len(), 3);
    let runs: Vec<String> = program
        .runs()
        .iter()
        .map(|run| run.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(runs.len(), 5);
    let mut arguments = vec!["selftest", "--nights", "20", "--seed", "1", "--from"];
    arguments.extend(runs.iter().map(String::as_str));
    let again = program.run(&arguments);
    assert!(
        again.out.contains("20 simulated nights"),
        "{}{}",
        again.out,
        again.err
    );
}
