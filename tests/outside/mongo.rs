//! A replica set's clients through the ways in, by a driver that is not ours: the one for Python.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::Watch;
use crate::program::{Ended, Program, skip, turn};

/// The package from PyPI, and the versions that may be had.
const PACKAGE: &str = "pymongo>=4.9,<5";

/// What any program would do: default settings, the names of the members, a write and a read from a secondary.
const SCRIPT: &str = r#"
import sys, time
from pymongo import MongoClient, ReadPreference
hosts = ",".join(f"mongo-{n}.mongo.inroads.svc.cluster.local:27017" for n in range(3))
client = MongoClient(f"mongodb://{hosts}/?replicaSet=rs0", serverSelectionTimeoutMS=5000)
things = client.test.things
things.insert_one({"_id": sys.argv[1]})
secondary = things.with_options(read_preference=ReadPreference.SECONDARY)
deadline = time.monotonic() + 5
while secondary.find_one({"_id": sys.argv[1]}) is None:
    assert time.monotonic() < deadline, "no secondary has it"
print("primary", client.primary[0])
print("secondaries", len(client.secondaries))
"#;

/// Runs the script on the laptop of `method`.
fn script(method: &str, python: &Path) -> Ended {
    let program = Program::new();
    let watch = Watch::begin(&program.mark);
    let python = python.to_str().unwrap();
    let ended = program.run(&["shell", method, "--", python, "-c", SCRIPT, method]);
    watch.nothing_is_left();
    ended
}

#[test]
fn a_driver_finds_the_members_by_their_names_where_the_network_is_there() {
    let _turn = turn();
    let python = match environment() {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    for method in ["route", "wireguard"] {
        let ended = script(method, &python);
        assert_eq!(ended.code, Some(0), "{method}: {}", ended.err);
        let lines: Vec<&str> = ended.out.lines().collect();
        assert!(
            lines[0].starts_with("primary mongo-"),
            "{method}: {}",
            ended.out
        );
        assert_eq!(lines[1], "secondaries 2", "{method}");
    }
}

#[test]
fn a_driver_does_not_find_them_where_only_ports_are_forwarded() {
    let _turn = turn();
    let python = match environment() {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    let ended = script("forward", &python);
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    let said = ended.err;
    assert!(said.contains("ServerSelectionTimeoutError"), "{said}");
    assert!(
        said.contains("mongo-0.mongo.inroads.svc.cluster.local"),
        "{said}"
    );
}

/// A Python that has the package, in a virtual environment beside the build.
fn environment() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pymongo");
    let python = folder.join("bin/python");
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if run(&python, &["-c", "import pymongo"]).is_ok() {
        return Ok(python);
    }
    let name = folder
        .to_str()
        .ok_or("the build folder's name is no text")?;
    run(Path::new("python3"), &["-m", "venv", name])?;
    let words = ["install", "--quiet", "--disable-pip-version-check", PACKAGE];
    run(&folder.join("bin/pip"), &words)?;
    run(&python, &["-c", "import pymongo"])?;
    Ok(python)
}

fn run(program: &Path, words: &[&str]) -> Result<(), String> {
    let name = program.display();
    let ended = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output();
    let ended = ended.map_err(|error| format!("`{name}` cannot be run: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default();
    Err(format!("`{name} {}` failed: {last}", words.join(" ")))
}
