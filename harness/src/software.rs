//! Servers of other makers that workloads run, such as Redis: the machine's own where they are on its PATH,
//! else unpacked from its distribution's packages into this user's cache. Nothing is ever installed.
//!
//! Where an image can be pulled from a registry none of this is needed; it is for clusters whose nodes are on
//! this machine.

mod apt;
mod folder;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::cluster::{ClusterError, Steps};
use crate::run::{Component, Provenance};

/// Longest time for a program to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The folders of this machine that every container of the lab has, so that programs in them can be run there.
const SEEN_IN_CONTAINERS: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/opt"];

/// A server with the tools that belong to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Software {
    /// The name of its official image, without registry and tag.
    pub image: &'static str,
    /// The program that its containers run.
    pub server: &'static str,
    /// All of its programs, the server too.
    pub programs: &'static [&'static str],
    /// The packages of Debian and Ubuntu that hold them.
    pub packages: &'static [&'static str],
}

/// All that can be provided.
pub const ALL: &[Software] = &[Software {
    image: "redis",
    server: "redis-server",
    programs: &["redis-server", "redis-cli", "redis-benchmark"],
    packages: &["redis-server", "redis-tools"],
}];

/// Software that is there to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// What it is.
    pub software: &'static Software,
    /// The version that the server itself tells.
    pub version: String,
    /// Where its programs are.
    pub place: Place,
}

/// Where programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a folder of this machine's PATH.
    Machine(PathBuf),
    /// In a folder of the cache, self-contained but for the libraries that the machine has anyway.
    Cache(PathBuf),
}

impl Software {
    /// What the image of this name holds, whatever its registry and tag; `None` where it is unknown.
    #[must_use]
    pub fn of_image(image: &str) -> Option<&'static Self> {
        let base = image_base(image);
        ALL.iter().find(|software| software.image == base)
    }

    /// Where it is now. Nothing is fetched and nothing is run.
    #[must_use]
    pub fn place(&'static self) -> Option<Place> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let machine = std::env::split_paths(&path)
            .find(|folder| is_seen_in_containers(folder) && folder.join(self.server).is_file());
        machine.map(Place::Machine).or_else(|| {
            let folder = folder::of(self);
            folder::is_whole(&folder, self).then_some(Place::Cache(folder))
        })
    }

    /// Finds it, or fetches it once. `progress` is told where that takes time.
    ///
    /// # Errors
    /// [`ClusterError::Missing`] where it is neither here nor to be had, with the reason and what to do.
    pub async fn provide(&'static self, progress: Steps<'_>) -> Result<Provided, ClusterError> {
        if let Some(place) = self.place() {
            match self.at(place.clone()).await {
                Ok(provided) => return Ok(provided),
                // Libraries of the machine may have moved on since.
                Err(error) => match place {
                    Place::Machine(_) => return Err(error),
                    Place::Cache(folder) => folder::discard(&folder)?,
                },
            }
        }
        let folder = folder::fetch(self, progress).await?;
        self.at(Place::Cache(folder)).await
    }

    /// Lets the server at `place` tell its version, which shows that it runs.
    async fn at(&'static self, place: Place) -> Result<Provided, ClusterError> {
        let program = place.bin().join(self.server);
        let doing = format!("asking `{}` for its version", program.display());
        let mut asked = Command::new(&program);
        asked.arg("--version").kill_on_drop(true);
        let output = tokio::time::timeout(VERSION_LIMIT, asked.output()).await;
        let output = output
            .map_err(ClusterError::while_doing(&doing))?
            .map_err(ClusterError::while_doing(&doing))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = version_in(&said).filter(|_| output.status.success());
        let version = version.ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            ClusterError::while_doing(doing)(format!("it said `{}{}`", said, complaint.trim()))
        })?;
        Ok(Provided {
            software: self,
            version,
            place,
        })
    }
}

impl Provided {
    /// What a report says of it.
    #[must_use]
    pub fn component(&self) -> Component {
        Component {
            name: self.software.server.to_owned(),
            version: self.version.clone(),
            provenance: Provenance::Real,
        }
    }
}

impl Place {
    /// The folder whose programs can be run on this machine as they are.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        match self {
            Self::Machine(folder) => folder.clone(),
            Self::Cache(folder) => folder.join(folder::BIN),
        }
    }

    /// The same where its own folder is bound to `target`, as in containers.
    #[must_use]
    pub fn bin_where_bound(&self, target: &Path) -> PathBuf {
        match self {
            Self::Machine(folder) => folder.clone(),
            Self::Cache(_) => target.join(folder::BIN),
        }
    }

    /// Its own folder; `None` where it is among the machine's programs.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Machine(_) => None,
            Self::Cache(folder) => Some(folder),
        }
    }

    /// The program `name` itself, as opposed to what starts it with its libraries.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Machine(folder) => Some(folder.join(name)).filter(|file| file.is_file()),
            Self::Cache(folder) => folder::program(folder, name),
        }
    }

    /// The folders in which its libraries are, apart from the machine's own.
    #[must_use]
    pub fn libraries(&self) -> Vec<PathBuf> {
        match self {
            Self::Machine(_) => Vec::new(),
            Self::Cache(folder) => folder::libraries(folder),
        }
    }
}

/// A PATH in which the programs of all software that was unpacked come last: what a user's tools are is not
/// for us to say. `None` where nothing was unpacked.
#[must_use]
pub fn path_with_unpacked() -> Option<OsString> {
    let unpacked = ALL.iter().filter_map(|software| match software.place()? {
        Place::Machine(_) => None,
        place @ Place::Cache(_) => Some(place.bin()),
    });
    let unpacked: Vec<PathBuf> = unpacked.collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(unpacked.iter().cloned());
    std::env::join_paths(all)
        .ok()
        .filter(|_| !unpacked.is_empty())
}

/// The last part of an image's name, without its registry, tag and digest.
#[must_use]
pub fn image_base(image: &str) -> &str {
    let path = image.split_once('@').map_or(image, |(path, _digest)| path);
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split_once(':').map_or(last, |(base, _tag)| base)
}

fn is_seen_in_containers(folder: &Path) -> bool {
    SEEN_IN_CONTAINERS.iter().any(|top| folder.starts_with(top))
}

/// The version in a line such as `Redis server v=7.0.15 sha=00000000:0 …`: the first word that begins with a
/// digit once `v` and `=` are away.
fn version_in(said: &str) -> Option<String> {
    said.split_ascii_whitespace()
        .map(|word| word.trim_start_matches("v=").trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(|word| word.trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_whatever_its_registry_tag_and_digest() {
        for image in [
            "redis",
            "redis:7.0",
            "docker.io/library/redis:7.0-bookworm",
            "localhost:5000/redis@sha256:00",
        ] {
            let known = Software::of_image(image).map(|software| software.server);
            assert_eq!(known, Some("redis-server"), "{image}");
        }
        assert_eq!(Software::of_image("example/redis-exporter:1"), None);
    }

    #[test]
    fn the_version_is_read_as_servers_tell_it() {
        let said =
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81b\n";
        assert_eq!(version_in(said).as_deref(), Some("7.0.15"));
        assert_eq!(version_in("db version v6.0.5\n").as_deref(), Some("6.0.5"));
        assert_eq!(version_in("no version here"), None);
    }
}
