//! `inroads doctor`.

use std::fmt::Write as _;
use std::path::Path;

use inroads_clusters::Docker;
use inroads_lab::Lab;
use serde::Serialize;

use super::print;
use crate::cli::Doctor;
use crate::exit::Exit;

/// One line of the findings.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    state: State,
    detail: String,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Good,
    /// It works, with less.
    Less,
    /// Runs are not possible, or not to be trusted, before this is put right.
    Bad,
}

/// The load beyond which figures are not to be trusted, for each core.
const BUSY: f64 = 0.5;

/// The memory that a run of everything takes, in KiB, with room to spare.
const MEMORY_KIB: u64 = 1 << 20;

/// Finds out what this machine can run and says why not the rest.
pub(crate) async fn run(arguments: &Doctor) -> Exit {
    let mut lines = vec![build(), load(), memory()];
    match Lab::check().await {
        Ok(findings) => lines.extend(findings.into_iter().map(|finding| match finding.problem {
            None => line(&finding.what, State::Good, "works"),
            Some(problem) if finding.needed => line(&finding.what, State::Bad, problem),
            Some(problem) => line(&finding.what, State::Less, problem),
        })),
        Err(error) => return Exit::failed(error),
    }
    lines.extend(real_kubernetes().await);
    lines.push(kubectl());
    let printed = if arguments.json {
        serde_json::to_string(&lines)
            .map_err(Into::into)
            .and_then(|text| print(&(text + "\n")))
    } else {
        print(&show(&lines))
    };
    match printed {
        Err(error) => Exit::Failed(error),
        Ok(()) if lines.iter().any(|line| line.state == State::Bad) => Exit::Unwell,
        Ok(()) => Exit::Success,
    }
}

fn show(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line {
        what,
        state,
        detail,
    } in lines
    {
        let mark = match state {
            State::Good => "ok  ",
            State::Less => "less",
            State::Bad => "NO  ",
        };
        let detail = detail.replace('\n', "\n      ");
        let _ = writeln!(text, "{mark}  {what}: {detail}");
    }
    let verdict = if lines.iter().any(|line| line.state == State::Bad) {
        "`inroads bench` cannot run here before that is put right"
    } else {
        "`inroads bench all` can run here"
    };
    text + "\n" + verdict + "\n"
}

fn build() -> Line {
    let optimised = inroads_harness::engine::build_profile() == "optimised";
    match optimised {
        true => line("this program", State::Good, "built with optimisation"),
        false => line(
            "this program",
            State::Bad,
            "built without optimisation: figures would mean nothing",
        ),
    }
}

fn load() -> Line {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text
        .split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = load / f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
    let detail = format!("load {load:.1} on {cores} cores");
    if each > BUSY {
        return line(
            "other work",
            State::Less,
            format!("{detail}: figures will suffer; wait until it is quiet"),
        );
    }
    line("other work", State::Good, detail)
}

fn memory() -> Line {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = available
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let detail = format!("{} MiB available", kib / 1024);
    let state = if kib < MEMORY_KIB {
        State::Less
    } else {
        State::Good
    };
    line("memory", state, detail)
}

/// What kind clusters take. A lab needs none of it.
async fn real_kubernetes() -> Vec<Line> {
    let less =
        |what: &str, error: &dyn std::error::Error| line(what, State::Less, error.to_string());
    let docker = match Docker::find().await {
        Ok(docker) => docker,
        Err(error) => return vec![less("Docker, for kind", &error)],
    };
    let version = format!(
        "{}, cgroup v{}",
        docker.info.server_version, docker.info.cgroup_version
    );
    let engine = match docker.check_disk() {
        Ok(()) => line("Docker, for kind", State::Good, version),
        Err(error) => less("Docker, for kind", &error),
    };
    let kind = match inroads_clusters::kind_version(&docker).await {
        Ok(version) => line("kind", State::Good, version),
        Err(error) => less("kind", &error),
    };
    let image = match inroads_clusters::local_node_image(&docker).await {
        Some(image) => line("image of a kind node", State::Good, image),
        None => line(
            "image of a kind node",
            State::Less,
            "none is here: kind pulls its own where there is a registry, `kind-configs/offline/build` makes one elsewhere",
        ),
    };
    vec![engine, kind, image]
}

/// Only for users' own looks into a cluster: nothing here needs it.
fn kubectl() -> Line {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("kubectl"))
        .find(|file| Path::is_file(file));
    match found {
        Some(file) => line(
            "kubectl, to look into a cluster",
            State::Good,
            file.display().to_string(),
        ),
        None => line(
            "kubectl, to look into a cluster",
            State::Less,
            "not on PATH; nothing else needs it",
        ),
    }
}

fn line(what: &str, state: State, detail: impl Into<String>) -> Line {
    Line {
        what: what.to_owned(),
        state,
        detail: detail.into(),
    }
}
