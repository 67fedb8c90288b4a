//! Running the program, with a home of its own and a limit.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::machine::MARK;

/// The user and group that own nothing.
pub(crate) const NOBODY: u32 = 65534;

/// Longest time for anything here: what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// Who runs the program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests.
    Own,
    /// A user without any right, to whom only root can change.
    Nobody,
}

/// The program, with a home that is removed afterwards.
pub(crate) struct Program {
    home: TempDir,
    file: PathBuf,
    user: User,
    limit: Duration,
    /// What every process that comes of it has in its environment.
    pub(crate) mark: String,
}

/// How it ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A program that runs, with what it says going to files. It is killed where it is dropped.
pub(crate) struct Running {
    child: Child,
    limit: Duration,
    out: PathBuf,
    err: PathBuf,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self::of(User::Own)
    }

    /// The program as a user without rights has it, from a copy that this user can read.
    pub(crate) fn of(user: User) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let home = TempDir::with_prefix("inroads-test-").unwrap();
        fs::create_dir(home.path().join("run")).unwrap();
        let mut file = PathBuf::from(env!("CARGO_BIN_EXE_inroads"));
        if user == User::Nobody {
            let copy = home.path().join("inroads");
            fs::copy(&file, &copy).unwrap();
            for path in [home.path(), &home.path().join("run")] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            file = copy;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{count}", std::process::id());
        Self {
            home,
            file,
            user,
            limit: LIMIT,
            mark,
        }
    }

    /// The same, with patience for what takes longer than a lab.
    pub(crate) fn patient(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Its working directory, home and place for temporary files.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where software is unpacked: once for all tests, but for a user who may not write there.
    pub(crate) fn cache(&self) -> PathBuf {
        match self.user {
            User::Own => Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
            User::Nobody => self.home().join("cache"),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            User::Own => Command::new(&self.file),
            User::Nobody => {
                let mut command = Command::new("setpriv");
                let ids = [
                    format!("--reuid={NOBODY}"),
                    format!("--regid={NOBODY}"),
                    "--clear-groups".to_owned(),
                ];
                command.args(ids).arg(&self.file);
                command
            }
        };
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// Another program, in the same home.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        self.settle(&mut command);
        command
    }

    fn settle(&self, command: &mut Command) {
        command
            .current_dir(self.home())
            .env("HOME", self.home())
            .env("TMPDIR", self.home())
            .env("XDG_RUNTIME_DIR", self.home().join("run"))
            .env("INROADS_CACHE", self.cache())
            .env("SHELL", "/bin/sh")
            .env_remove("KUBECONFIG")
            // Whatever is installed here, each test has the cluster that it is about.
            .env("INROADS_CLUSTER", "lab")
            .env(MARK, &self.mark)
            .stdin(Stdio::null());
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_command(self.command(arguments))
    }

    pub(crate) fn start_command(&self, mut command: Command) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Beside the home, which is a subject of the tests itself.
        let said = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = |kind: &str| said.join(format!("{}-{count}.{kind}", self.mark));
        let (out, err) = (file("out"), file("err"));
        command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .process_group(0);
        let child = command.spawn().unwrap();
        Running {
            child,
            limit: self.limit,
            out,
            err,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// Runs another program to its end.
    pub(crate) fn run_command(&self, command: Command) -> Ended {
        self.start_command(command).end()
    }

    /// Runs it and gives what it printed, where all is well.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "inroads {arguments:?}: {}", ended.err);
        ended.out
    }

    /// The folders under `runs/`.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home().join("runs"));
        let entries = entries.into_iter().flatten().map(|entry| entry.unwrap());
        entries.map(|entry| entry.path()).collect()
    }

    /// The one folder that is there.
    pub(crate) fn only_run(&self) -> PathBuf {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].clone()
    }
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it has written to standard error so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until `condition` holds of it. Panics where it ends before, or takes too long.
    pub(crate) fn until<T>(&mut self, what: &str, condition: impl Fn(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: it ended: {}", self.said());
            assert!(
                begun.elapsed() < self.limit,
                "{what}: never; {}",
                self.said()
            );
            pause();
        }
    }

    /// Whether it has ended within `limit`.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > limit {
                return false;
            }
            pause();
        }
        true
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let limit = self.limit;
        let in_time = self.ends_within(limit);
        let (out, err) = (self.printed(), self.said());
        assert!(in_time, "still there after {limit:?}; {out}{err}");
        let code = self.child.wait().unwrap().code();
        Ended { code, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        for file in [&self.out, &self.err] {
            drop(fs::remove_file(file));
        }
    }
}

/// Whose turn it is to have a lab: one test at a time, also over the processes of `cargo nextest`.
pub(crate) fn turn() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("turn");
    let file = File::create(path).unwrap();
    file.lock().unwrap();
    file
}

/// A moment, between two looks at something that is to change.
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(10));
}

/// Waits until `condition` holds.
pub(crate) fn until<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        pause();
    }
}

/// Whether a program is on the PATH.
pub(crate) fn is_here(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Whether all of `names` are on the PATH; where one is not, that is said, past the capture of output.
pub(crate) fn has(names: &[&str]) -> bool {
    names.iter().all(|name| {
        is_here(name) || {
            skip(&format!("there is no `{name}` here"));
            false
        }
    })
}

/// Says that something is not tested, and why.
pub(crate) fn skip(reason: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("a test");
    let mut stderr = std::io::stderr();
    writeln!(stderr, "skipped: {name}: {reason}").unwrap();
}

/// A whole HTTP answer from `address`, asked for plainly.
pub(crate) fn http_get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
