//! `inroads shell`: tools that know nothing of us, on a laptop that a method connects.

use std::fs;
use std::process::Stdio;

use crate::machine::Watch;
use crate::program::{Ended, Program, Running, has, turn};

/// What a user types in a browser.
const NAME: &str = "web.inroads.svc.cluster.local";

/// What the web server says first.
const GREETING: &str = "Inroads: this is the inside of the cluster.";

/// Runs `script` on the laptop of `method`, and checks that nothing is left of it.
fn shell(method: &str, script: &str) -> Ended {
    let program = Program::new();
    let watch = Watch::begin(&program.mark);
    let ended = program.run(&["shell", method, "--", "sh", "-c", script]);
    watch.nothing_is_left();
    ended
}

/// Where the laptop of `forward` finds the web server, as the program says it before it runs the command.
pub(crate) fn forwarded(running: &mut Running) -> String {
    forwarded_from(running, &format!("{NAME}:80"))
}

/// The same for any target.
pub(crate) fn forwarded_from(running: &mut Running, target: &str) -> String {
    running.until("an address", |running| {
        let said = running.said();
        let line = said
            .lines()
            .find(|line| line.contains(&format!("{target} is at ")))?;
        let address = line.rsplit_once(' ')?.1.to_owned();
        said.contains(&format!("{address}\n")).then_some(address)
    })
}

#[test]
fn names_and_services_are_as_near_as_in_the_cluster() {
    let _turn = turn();
    if !has(&["dig", "curl"]) {
        return;
    }
    for method in ["wireguard", "route"] {
        let script = format!(
            "dig +short +tries=1 +time=3 {NAME}; curl -sS -m 5 http://{NAME}/; \
             dig +short +tries=1 +time=3 files.office.test; exit 7"
        );
        let ended = shell(method, &script);
        assert_eq!(ended.code, Some(7), "{method}: {}", ended.err);
        let lines: Vec<&str> = ended.out.lines().collect();
        assert!(lines[0].starts_with("10."), "{method}: {}", ended.out);
        assert!(lines[1].starts_with(GREETING), "{method}: {}", ended.out);
    }
}

#[test]
fn a_tool_that_honours_the_proxy_variables_gets_through_socks() {
    let _turn = turn();
    if !has(&["dig", "curl"]) {
        return;
    }
    let script = format!(
        "curl -sS -m 5 http://{NAME}/; dig +short +tries=1 +time=3 {NAME}; \
         curl -s --noproxy '*' -m 5 http://{NAME}/; echo \"without: $?\""
    );
    let ended = shell("socks", &script);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines[0].starts_with(GREETING), "{}", ended.out);
    assert_eq!(
        lines[1..],
        ["without: 6"],
        "names are the proxy's: {}",
        ended.out
    );
}

#[test]
fn forward_says_where_each_target_is() {
    let _turn = turn();
    if !has(&["curl"]) {
        return;
    }
    let program = Program::new();
    let script = "until [ -s at ]; do sleep 0.02; done; curl -sS -m 5 http://$(cat at)/";
    let mut running = program.start(&["shell", "forward", "--", "sh", "-c", script]);
    let at = forwarded(&mut running);
    // Whole at once: the shell may be looking.
    fs::write(program.home().join("new"), at).unwrap();
    fs::rename(program.home().join("new"), program.home().join("at")).unwrap();
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.starts_with(GREETING), "{}", ended.out);
}

#[test]
fn a_laptop_that_no_method_connects_reaches_nothing() {
    let _turn = turn();
    if !has(&["dig", "curl"]) {
        return;
    }
    let script = format!(
        "dig +tries=1 +time=3 {NAME} | grep -o 'status: [A-Z]*'; \
         curl -s -m 5 http://{NAME}/; echo \"by name: $?\"; \
         curl -s -m 2 http://10.96.0.1:443/; echo \"by address: $?\""
    );
    let ended = shell("none", &script);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[..2],
        ["status: NXDOMAIN", "by name: 6"],
        "{}",
        ended.out
    );
    assert!(
        ["by address: 7", "by address: 28"].contains(&lines[2]),
        "{}",
        ended.out
    );
    assert!(ended.err.contains("no method connects"), "{}", ended.err);
}

#[test]
fn a_command_has_the_callers_streams_and_its_own_end() {
    let _turn = turn();
    for (script, code) in [
        ("exit 42", 42),
        ("kill -TERM $$", 143),
        ("no-such-program", 127),
    ] {
        assert_eq!(shell("none", script).code, Some(code), "{script}");
    }
    let program = Program::new();
    let missing = program.run(&["shell", "none", "--", "no-such-program"]);
    assert_eq!(missing.code, Some(127), "{}", missing.err);
    assert!(missing.err.contains("no-such-program"), "{}", missing.err);

    fs::write(program.home().join("text"), "from the caller\n").unwrap();
    let mut command = program.command(&["shell", "none", "--", "cat"]);
    command.stdin(Stdio::from(
        fs::File::open(program.home().join("text")).unwrap(),
    ));
    let ended = program.run_command(command);
    assert_eq!(ended.out, "from the caller\n", "{}", ended.err);

    // Without a command it is the user's shell.
    let mut command = program.command(&["shell", "none"]);
    fs::write(
        program.home().join("text"),
        "echo on $INROADS_LAPTOP\nexit 3\n",
    )
    .unwrap();
    command.stdin(Stdio::from(
        fs::File::open(program.home().join("text")).unwrap(),
    ));
    let ended = program.run_command(command);
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(3), "on none\n"),
        "{}",
        ended.err
    );
}
