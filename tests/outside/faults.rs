//! What happens when it goes wrong: interrupts, kills, a lab that dies, a machine that lacks something.
//!
//! Moments are random. `INROADS_TEST_SEED` repeats those of a failure, which prints its seed.

use std::env;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::bench::result;
use crate::machine::Watch;
use crate::program::{Program, Running, User, has, skip, turn};

/// A run that goes through every phase in a few seconds.
const BENCH: [&str; 6] = ["bench", "all", "--profile", "smoke", "--scenario", "dns"];

/// What a run says at the beginning of each phase.
const PHASES: [&str; 8] = [
    "making the office LAN",
    "starting the control plane",
    "waiting for nodes",
    "deploying scenarios",
    "connecting laptops",
    "asking the probes",
    "finding the rate",
    "measuring, block 1",
];

/// From this one on there is a result file.
const FIRST_WITH_A_RESULT: usize = 3;

/// How far into a phase the moment may be.
const INTO: Duration = Duration::from_millis(250);

/// The moments of one test.
fn moments() -> SmallRng {
    let given = env::var("INROADS_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse::<u64>().unwrap());
    println!("INROADS_TEST_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

/// Waits for a phase, and then for a random while.
fn reach(running: &mut Running, phase: &str, random: &mut SmallRng) {
    running.until(phase, |running| {
        running.said().contains(phase).then_some(())
    });
    let into = random.random_range(Duration::ZERO..INTO);
    println!("{into:?} into {phase:?}");
    thread::sleep(into);
}

#[test]
fn an_interrupt_leaves_a_valid_partial_result_and_nothing_else() {
    let _turn = turn();
    let mut random = moments();
    for (index, phase) in PHASES.into_iter().enumerate() {
        let program = Program::new();
        let mut watch = Watch::begin(&program.mark);
        let mut running = program.start(&BENCH);
        reach(&mut running, phase, &mut random);
        watch.look();
        // At a terminal, all processes of the foreground get it; from a script, the one alone.
        if random.random() {
            let group = nix::unistd::Pid::from_raw(running.pid());
            nix::sys::signal::killpg(group, Signal::SIGINT).unwrap();
        } else if random.random() {
            running.signal(Signal::SIGINT);
        } else {
            running.signal(Signal::SIGTERM);
        }
        let ended = running.end();
        assert_eq!(ended.code, Some(130), "{phase}: {}{}", ended.out, ended.err);
        watch.nothing_is_left();
        let runs = program.runs();
        if index >= FIRST_WITH_A_RESULT {
            assert_eq!(runs.len(), 1, "{phase}: {}", ended.err);
        }
        for folder in runs {
            let run = result(&program, &folder);
            assert_eq!(run["run"]["status"], "partial", "{phase}");
            assert!(run["run"]["finished_at"].is_string(), "{phase}");
            assert!(folder.join("report.md").exists(), "{phase}");
        }
    }
}

#[test]
fn a_second_interrupt_does_not_wait() {
    let _turn = turn();
    let program = Program::new();
    let mut watch = Watch::begin(&program.mark);
    let mut running = program.start(&BENCH);
    reach(&mut running, "asking the probes", &mut moments());
    watch.look();
    running.signal(Signal::SIGINT);
    thread::sleep(Duration::from_millis(5));
    running.signal(Signal::SIGINT);
    assert!(running.ends_within(Duration::from_secs(3)));
    assert_eq!(running.end().code, Some(130));
    watch.nothing_is_left();
}

#[test]
fn a_kill_at_any_moment_leaves_nothing() {
    let _turn = turn();
    let mut random = moments();
    for phase in PHASES {
        let program = Program::new();
        let mut watch = Watch::begin(&program.mark);
        let mut running = program.start(&BENCH);
        reach(&mut running, phase, &mut random);
        assert!(watch.look() > 5, "{phase}: its namespaces were seen");
        running.signal(Signal::SIGKILL);
        assert_eq!(running.end().code, None);
        watch.nothing_is_left();
        for folder in program.runs() {
            // It may be the moment before the first file.
            if folder.join("run.json").exists() {
                assert_eq!(result(&program, &folder)["run"]["status"], "partial");
            }
        }
    }
}

#[test]
fn a_kill_of_a_shell_takes_its_command_and_its_lab_along() {
    let _turn = turn();
    for method in ["wireguard", "none"] {
        let program = Program::new();
        let mut watch = Watch::begin(&program.mark);
        let script = "echo there; exec sleep 600";
        let mut running = program.start(&["shell", method, "--", "sh", "-c", script]);
        running.until("its command", |running| {
            running.printed().contains("there").then_some(())
        });
        watch.look();
        running.signal(Signal::SIGKILL);
        assert_eq!(running.end().code, None);
        watch.nothing_is_left();
    }
}

#[test]
fn a_lab_that_is_not_known_yet_goes_with_who_starts_it() {
    let _turn = turn();
    let mut random = moments();
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        for phase in &PHASES[..FIRST_WITH_A_RESULT] {
            let program = Program::new();
            let mut watch = Watch::begin(&program.mark);
            let mut running = program.start(&["cluster", "up"]);
            running.until(phase, |running| {
                running.said().contains(phase).then_some(())
            });
            thread::sleep(random.random_range(Duration::ZERO..Duration::from_millis(40)));
            watch.look();
            running.signal(signal);
            let ended = running.end();
            let status = program.ok(&["cluster", "status"]);
            if ended.code == Some(0) || status.contains("is up") {
                // It was quicker. Then it is known, and can be ended.
                assert!(status.contains("is up"), "{status}");
                program.ok(&["cluster", "down"]);
            }
            watch.nothing_is_left();
        }
    }
}

#[test]
fn what_a_killed_run_left_in_a_lab_does_not_hinder_the_next() {
    let _turn = turn();
    let program = Program::new();
    let watch = Watch::begin(&program.mark);
    program.ok(&["cluster", "up"]);
    let attached: Vec<&str> = BENCH
        .into_iter()
        .chain(["--cluster", "lab=inroads"])
        .collect();
    let mut running = program.start(&attached);
    reach(&mut running, "measuring, block 1", &mut moments());
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    let again = program.run(&attached);
    program.ok(&["cluster", "down"]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    watch.nothing_is_left();
}

#[test]
fn a_lab_that_dies_ends_the_run_with_a_reason() {
    let _turn = turn();
    let program = Program::new();
    let mut watch = Watch::begin(&program.mark);
    let mut running = program.start(&BENCH);
    reach(&mut running, "connecting laptops", &mut moments());
    watch.look();
    watch.kill("lab init");
    assert!(
        running.ends_within(Duration::from_secs(60)),
        "{}",
        running.said()
    );
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    watch.nothing_is_left();
    let run = result(&program, &program.only_run());
    assert_ne!(run["run"]["status"], "complete");
}

#[test]
fn a_full_disk_is_named() {
    let _turn = turn();
    if !has(&["unshare", "mount"]) {
        return;
    }
    for size in ["4k", "16k"] {
        let program = Program::new();
        fs::create_dir(program.home().join("small")).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size} small small && exec \"$0\" bench direct --profile smoke --out small"
        );
        let mut command = program.tool("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        command.arg(env!("CARGO_BIN_EXE_inroads"));
        let watch = Watch::begin(&program.mark);
        let ended = program.run_command(command);
        assert_eq!(ended.code, Some(1), "{size}: {}", ended.err);
        assert!(ended.err.contains("No space left"), "{size}: {}", ended.err);
        assert!(ended.err.contains("small/"), "{size}: {}", ended.err);
        watch.nothing_is_left();
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can become a user who owns nothing");
    }
    if !has(&["setpriv"]) {
        return;
    }
    let program = Program::of(User::Nobody);
    let ended = program.run(&["bench", "--out", "/proc/1/x"]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    fs::create_dir(program.home().join("roots")).unwrap();
    let ended = program.run(&["bench", "--out", "roots"]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("Permission denied"), "{}", ended.err);
    assert!(ended.err.contains("`--out`"), "{}", ended.err);
}

#[test]
fn a_machine_without_user_namespaces_is_told_what_to_do() {
    let _turn = turn();
    if !has(&["unshare"]) {
        return;
    }
    let program = Program::new();
    // The limit is one of the namespace that it is set in, and of all below.
    let without = |arguments: &str| {
        let script =
            format!("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" {arguments}");
        let mut command = program.tool("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &script]);
        command.arg(env!("CARGO_BIN_EXE_inroads"));
        program.run_command(command)
    };
    for arguments in ["bench", "shell route -- true", "cluster up"] {
        let ended = without(arguments);
        assert_eq!(ended.code, Some(1), "{arguments}: {}", ended.err);
        assert!(
            ended.err.contains("no user namespace"),
            "{arguments}: {}",
            ended.err
        );
        let hint = "(hint: none may be made: raise `sysctl user.max_user_namespaces`)";
        assert!(ended.err.contains(hint), "{arguments}: {}", ended.err);
        assert!(program.runs().is_empty(), "{arguments} leaves no run");
    }
    let doctor = without("doctor");
    assert_eq!(doctor.code, Some(1), "{}", doctor.out);
    assert!(doctor.out.contains("NO  "), "{}", doctor.out);
    assert!(doctor.out.contains("max_user_namespaces"), "{}", doctor.out);
}
