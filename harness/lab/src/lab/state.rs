//! Where a lab that stays is found again: a folder that only this user can read.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use inroads_harness::cluster::ClusterError;
use inroads_harness::private::{self, birth, using};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::kubeconfig::kubeconfig;
use super::{END_LIMIT, failed};
use crate::spec::Ready;

/// A lab that stays until it is ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabState {
    name: String,
    first: i32,
    /// When its first process started, in ticks since boot: with the number, it is one process for good.
    born: u64,
    ready: Ready,
}

/// Whether a lab is up.
#[derive(Debug, Clone)]
pub enum Status {
    /// It is.
    Up(Box<LabState>),
    /// There is none of that name.
    Absent,
    /// It was, and what is left of it are files.
    Dead,
}

impl LabState {
    /// The lab of this name.
    ///
    /// # Errors
    /// Where its state is there and cannot be read.
    pub fn find(name: &str) -> Result<Status, ClusterError> {
        let place = Place::of(name)?;
        let text = match fs::read(place.state()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Status::Absent),
            Err(error) => return Err(using(&place.state())(error)),
        };
        let state: Self = serde_json::from_slice(&text).map_err(using(&place.state()))?;
        let alive = birth(state.first) == Some(state.born);
        Ok(if alive {
            Status::Up(Box::new(state))
        } else {
            Status::Dead
        })
    }

    /// Ends the lab and removes its files. One that is not there is no error.
    ///
    /// # Errors
    /// Where it does not go.
    pub async fn end(name: &str) -> Result<bool, ClusterError> {
        let status = Self::find(name)?;
        if let Status::Up(state) = &status {
            // With its first process, the kernel ends all of it.
            kill(Pid::from_raw(state.first), Signal::SIGKILL).map_err(
                ClusterError::while_doing(format!("ending the lab `{name}`")),
            )?;
            let gone = async {
                while birth(state.first) == Some(state.born) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(END_LIMIT, gone)
                .await
                .map_err(|_elapsed| ClusterError::TimedOut {
                    phase: format!("ending the lab `{name}`"),
                    limit_s: END_LIMIT.as_secs(),
                    hint: format!("look at process {}", state.first),
                })?;
        }
        let place = Place::of(name)?;
        match fs::remove_dir_all(&place.folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(using(&place.folder)(error)),
        }
    }

    /// Removes the files of all labs that have ended, and returns their names.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub async fn clean() -> Result<Vec<String>, ClusterError> {
        let mut removed = Vec::new();
        let entries = fs::read_dir(base()).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if matches!(Self::find(&name), Ok(Status::Dead | Status::Absent))
                && Self::end(&name).await?
            {
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Where its kubeconfig is.
    ///
    /// # Errors
    /// Where this user has no folder for it.
    pub fn kubeconfig(&self) -> Result<PathBuf, ClusterError> {
        Ok(Place::of(&self.name)?.kubeconfig())
    }

    /// The API server on this machine's loopback.
    #[must_use]
    pub fn api(&self) -> std::net::SocketAddr {
        self.ready.api
    }

    /// How long it took to be ready.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        Duration::from_millis(self.ready.ready_ms)
    }

    pub(super) fn first(&self) -> i32 {
        self.first
    }

    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }
}

/// Where labs are.
fn base() -> PathBuf {
    private::base().join("labs")
}

/// The files of one lab.
pub(super) struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    /// Takes the place for a new lab: it must be free, or hold what is left of a dead one.
    pub(super) fn claim(name: &str) -> Result<Self, ClusterError> {
        if let Status::Up(_) = LabState::find(name)? {
            return Err(ClusterError::Missing {
                what: format!("the lab `{name}` is up already"),
                hint: "use it, or end it with `inroads cluster down`".to_owned(),
            });
        }
        let place = Self::of(name)?;
        drop(fs::remove_dir_all(&place.folder));
        private::make(&place.folder)?;
        Ok(place)
    }

    /// Notes the lab that is there now.
    pub(super) fn fill(self, first: i32, ready: Ready) -> Result<LabState, ClusterError> {
        let born = birth(first).ok_or("it is gone again").map_err(failed())?;
        private::write(
            &self.kubeconfig(),
            kubeconfig(&self.name, &ready).as_bytes(),
        )?;
        let state = LabState {
            name: self.name.clone(),
            first,
            born,
            ready,
        };
        let text = serde_json::to_vec(&state).map_err(failed())?;
        private::write(&self.state(), &text)?;
        Ok(state)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn of(name: &str) -> Result<Self, ClusterError> {
        let safe = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !safe {
            return Err(ClusterError::Missing {
                what: format!("`{name}` is no name for a lab"),
                hint: "use letters, digits and `-`".to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            folder: base().join(name),
        })
    }

    fn state(&self) -> PathBuf {
        self.folder.join("lab.json")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for name in ["", "..", "a/b", "a b"] {
            assert!(Place::of(name).is_err(), "{name:?}");
        }
    }
}
