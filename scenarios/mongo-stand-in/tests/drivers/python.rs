//! The official driver for Python, which shares nothing with ours: from PyPI, into a virtual environment beside the
//! build. Where Python or the package cannot be had that is said, and the test is skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::set::{LIMIT, Set};

/// The package, and the version that was tried.
const PACKAGE: &str = "pymongo>=4.9,<5";

/// Inserts, reads from a secondary, follows a step-down, and waits for a line before it goes on.
const SCRIPT: &str = r#"
import sys, time
from pymongo import MongoClient, ReadPreference
from pymongo.errors import AutoReconnect, ConnectionFailure, DuplicateKeyError
from pymongo.monitoring import CommandListener

class Listener(CommandListener):
    answered = {}
    def started(self, event): pass
    def failed(self, event): pass
    def succeeded(self, event): self.answered[event.command_name] = event.connection_id

client = MongoClient(sys.argv[1], event_listeners=[Listener()])
things = client.test.things
assert things.insert_one({"_id": 0}).inserted_id == 0
first = Listener.answered["insert"]
assert first == client.primary, (first, client.primary)

from_secondaries = things.with_options(read_preference=ReadPreference.SECONDARY)
deadline = time.monotonic() + 10
while from_secondaries.find_one({"_id": 0}) is None:
    assert time.monotonic() < deadline, "no secondary has it"
assert Listener.answered["find"] in client.secondaries
things.insert_many([{"_id": n} for n in range(1, 250)])
assert things.count_documents({}) == 250
assert [d["_id"] for d in things.find({"_id": {"$lt": 150}}).batch_size(40)] == list(range(150))
assert things.update_many({"_id": {"$gte": 240}}, {"$set": {"a": 1}}).modified_count == 10
try:
    things.insert_one({"_id": 0})
    raise AssertionError("twice")
except DuplicateKeyError:
    pass

client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)
acknowledged = set()
for n in range(1000, 1050):
    things.insert_one({"_id": n})
    acknowledged.add(n)
assert Listener.answered["insert"] != first, "another is primary"

print("kill", *Listener.answered["insert"], flush=True)
sys.stdin.readline()
deadline, errors, n = time.monotonic() + 25, 0, 2000
while len(acknowledged) < 100:
    try:
        things.insert_one({"_id": n})
        acknowledged.add(n)
    except (AutoReconnect, ConnectionFailure) as error:
        errors += 1
        assert time.monotonic() < deadline, error
    n += 1
found = {d["_id"] for d in things.find({"_id": {"$gte": 1000}})}
assert acknowledged <= found, acknowledged - found
print("done", len(acknowledged), errors, flush=True)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_for_python_finds_its_way_as_well() {
    let python = match environment().await {
        Ok(python) => python,
        Err(why) => {
            let said = writeln!(std::io::stderr(), "skipped: the driver for Python: {why}");
            return said.unwrap();
        }
    };
    let mut set = Set::start().await;
    let mut child = Command::new(python)
        .args(["-c", SCRIPT, &set.uri()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        timeout(LIMIT * 2, lines.next_line())
            .await
            .unwrap()
            .unwrap()
    };
    let told = next().await.expect("the script failed, see above");
    let words: Vec<&str> = told.split(' ').collect();
    assert_eq!(words[0], "kill");
    let at = format!("{}:{}", words[1], words[2]);
    let addresses = set.addresses.iter().map(ToString::to_string);
    let number = addresses.into_iter().position(|address| address == at);
    set.kill(number.unwrap()).await;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"go on\n").await.unwrap();
    let told = next().await.expect("the script failed, see above");
    assert!(told.starts_with("done 100 "), "{told}");
    assert!(child.wait().await.unwrap().success());
}

/// A Python that has the package.
async fn environment() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pymongo");
    let python = folder.join("bin/python");
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let there = |python: PathBuf| async move {
        let mut command = Command::new(&python);
        command.args(["-c", "import pymongo"]).stderr(Stdio::null());
        let ended = command.status().await;
        ended.is_ok_and(|ended| ended.success()).then_some(python)
    };
    if let Some(python) = there(python.clone()).await {
        return Ok(python);
    }
    let folder = folder
        .to_str()
        .ok_or("the build folder's name is no text")?;
    run("python3", &["-m", "venv", folder]).await?;
    let pip = format!("{folder}/bin/pip");
    let words = ["install", "--quiet", "--disable-pip-version-check", PACKAGE];
    run(&pip, &words).await?;
    there(python)
        .await
        .ok_or_else(|| "the package cannot be imported".to_owned())
}

async fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(LIMIT * 6, command.output()).await;
    let ended = ended.map_err(|_elapsed| format!("`{program}` takes too long"))?;
    let ended = ended.map_err(|error| format!("`{program}`: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default();
    Err(format!("`{program} {}` failed: {last}", words.join(" ")))
}
