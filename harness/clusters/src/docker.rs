//! The container engine of this machine, through its command, which kind needs too.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inroads_harness::causes::in_one_line;
use inroads_harness::cluster::ClusterError;
use serde::Deserialize;
use tempfile::TempDir;

use crate::tool::{Tool, is_there};

/// Longest time for the engine to answer a plain question.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The disk that a cluster's nodes take, with room to spare.
const DISK_BYTES: u64 = 4 << 30;

/// What is left on a disk that is as good as full.
const FULL_BYTES: u64 = 256 << 20;

/// `docker` for machines whose engine may not hand out `CAP_SYS_RESOURCE`; the file says more.
const SHIM: &str = include_str!("../../../kind-configs/offline/shim/docker");

/// `CAP_SYS_RESOURCE` of capabilities(7).
const SYS_RESOURCE: u32 = 24;

/// The engine, found and checked.
#[derive(Clone)]
pub struct Docker {
    /// What the engine says of itself.
    pub info: Info,
    path: OsString,
    _shim: Option<Arc<TempDir>>,
}

/// What the engine says of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Its version.
    #[serde(default)]
    pub server_version: String,
    /// 1 or 2.
    #[serde(default)]
    pub cgroup_version: String,
    /// Where its images and containers are.
    #[serde(default)]
    docker_root_dir: String,
    #[serde(default)]
    server_errors: Vec<String>,
}

impl Docker {
    /// The engine of this machine.
    ///
    /// # Errors
    /// [`ClusterError::Missing`] where the command is not there or no engine answers, with the next step.
    pub async fn find() -> Result<Self, ClusterError> {
        let path = with_installed_kind(std::env::var_os("PATH").unwrap_or_default())?;
        if !is_there("docker", &path) {
            return Err(missing(
                "`docker` is not on PATH",
                "install it (Debian: `apt-get install docker.io`); `--cluster lab` needs none",
            ));
        }
        if let Ok(host) = std::env::var("DOCKER_HOST")
            && !host.starts_with("unix:")
        {
            return Err(missing(
                &format!("DOCKER_HOST is `{host}`: laptops must be on this machine"),
                "unset DOCKER_HOST, or run inroads on that machine",
            ));
        }
        let asked = Tool::new("docker", &path).args(["info", "--format", "{{json .}}"]);
        let answer = asked
            .run_within(ANSWER_LIMIT, "asking the Docker engine", "is it stuck?")
            .await;
        let info: Option<Info> = answer
            .as_deref()
            .ok()
            .and_then(|text| serde_json::from_str(text).ok());
        let info = match info {
            Some(info) if info.server_errors.is_empty() && !info.server_version.is_empty() => info,
            other => {
                let said = match (other, answer) {
                    (Some(info), _) => info.server_errors.join("; "),
                    (None, Err(error)) => in_one_line(&error),
                    (None, Ok(_)) => "its answer cannot be read".to_owned(),
                };
                return Err(missing(
                    &format!("no Docker engine answers: {said}"),
                    "start it (`systemctl start docker`, or `kind-configs/offline/dockerd` where there is no \
                     systemd); `--cluster lab` needs none",
                ));
            }
        };
        let shim = may_hand_out(SYS_RESOURCE)
            .then_some(None)
            .map_or_else(|| put_shim().map(|folder| Some(Arc::new(folder))), Ok)?;
        let path = match &shim {
            Some(folder) => before(folder.path(), &path)?,
            None => path,
        };
        Ok(Self {
            info,
            path,
            _shim: shim,
        })
    }

    /// Refuses where a cluster would fill the disk.
    ///
    /// # Errors
    /// [`ClusterError::Missing`], with what is free and what is wanted.
    pub fn check_disk(&self) -> Result<(), ClusterError> {
        self.check_room(DISK_BYTES)
    }

    /// Whether the engine's disk is as good as full: what then fails, fails for that, whatever it says.
    ///
    /// # Errors
    /// [`ClusterError::Missing`], with how much is left.
    pub(crate) fn check_full(&self) -> Result<(), ClusterError> {
        self.check_room(FULL_BYTES)
    }

    fn check_room(&self, needed: u64) -> Result<(), ClusterError> {
        let root = Path::new(&self.info.docker_root_dir);
        // A folder that this user may not look into is on its parent's disk.
        let found = root
            .ancestors()
            .find_map(|folder| nix::sys::statvfs::statvfs(folder).ok());
        let free = found.map(|disk| disk.blocks_available() * disk.fragment_size());
        match free {
            Some(free) if free < needed => Err(missing(
                &format!(
                    "{} MiB are free at `{}`, and a cluster takes up to {}",
                    free >> 20,
                    root.display(),
                    DISK_BYTES >> 20
                ),
                "make room (`docker system df` shows what Docker holds)",
            )),
            _ => Ok(()),
        }
    }

    /// The `docker` command.
    pub(crate) fn command<I, S>(&self, arguments: I) -> Tool
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Tool::new("docker", &self.path).args(arguments)
    }

    /// The PATH on which `docker` is the one to use.
    pub(crate) fn path(&self) -> &OsStr {
        &self.path
    }

    /// Whether an image of this name is here.
    pub(crate) async fn has_image(&self, name: &str) -> bool {
        let asked = self.command(["image", "inspect", "--format", "{{.Id}}", name]);
        asked.run("looking for an image").await.is_ok()
    }

    /// The names of all images that match `reference`, newest first.
    pub(crate) async fn images(&self, reference: &str) -> Vec<String> {
        let format = "{{.Repository}}:{{.Tag}}";
        let asked = self.command(["images", "--format", format, reference]);
        lines(&asked.run("listing images").await.unwrap_or_default())
    }

    /// The names of all images with this label.
    pub(crate) async fn images_with(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        let format = "{{.Repository}}:{{.Tag}}";
        let asked = self.command(["images", "--filter", &filter, "--format", format]);
        let mut found = lines(&asked.run("listing images").await.unwrap_or_default());
        // One whose name has gone to another.
        found.retain(|name| !name.contains("<none>"));
        found
    }

    /// The containers that `filter` selects, running or not, by `format`.
    pub(crate) async fn containers(
        &self,
        filter: &str,
        format: &str,
    ) -> Result<Vec<String>, ClusterError> {
        let asked = self.command(["ps", "--all", "--filter", filter, "--format", format]);
        Ok(lines(&asked.run("listing containers").await?))
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

/// Whether this machine's processes may ever have a capability: `CapBnd` of proc_pid_status(5).
fn may_hand_out(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bounding.is_none_or(|set| set >> capability & 1 == 1)
}

/// PATH, and behind it the folder where `kind-configs/offline/build --install` puts kind.
fn with_installed_kind(path: OsString) -> Result<OsString, ClusterError> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = folder("INROADS_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("inroads")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/inroads")));
    let bin = cache.map(|cache| cache.join("kind-offline/bin"));
    let Some(bin) = bin.filter(|bin| bin.is_dir()) else {
        return Ok(path);
    };
    let folders = std::env::split_paths(&path).chain([bin]);
    std::env::join_paths(folders).map_err(ClusterError::while_doing("extending PATH"))
}

fn put_shim() -> Result<TempDir, ClusterError> {
    let failed = || ClusterError::while_doing("putting a wrapper of `docker` in place");
    let folder = TempDir::with_prefix("inroads-docker-").map_err(failed())?;
    let file = folder.path().join("docker");
    std::fs::write(&file, SHIM).map_err(failed())?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).map_err(failed())?;
    Ok(folder)
}

fn before(folder: &Path, path: &OsStr) -> Result<OsString, ClusterError> {
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(path));
    std::env::join_paths(folders).map_err(ClusterError::while_doing("extending PATH"))
}

pub(crate) fn missing(what: &str, hint: &str) -> ClusterError {
    ClusterError::Missing {
        what: what.to_owned(),
        hint: hint.to_owned(),
    }
}
