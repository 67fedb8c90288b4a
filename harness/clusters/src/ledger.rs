//! What there is on this machine's engine because of us: written down before it is made, so that it can
//! be taken away whatever happens to the controller, and nothing else ever is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inroads_harness::clock::Stopwatch;
use inroads_harness::cluster::ClusterError;
use inroads_harness::heir::{self, Heir};
use inroads_harness::kubernetes::RUN_LABEL;
use inroads_harness::private::{self, birth, using};
use inroads_harness::role::{Role, RoleError};
use serde::{Deserialize, Serialize};

use crate::docker::Docker;
use crate::{kind, laptops, program};

/// `inroads agent janitor`: waits for its input to end, then takes away what a ledger still names.
pub(crate) const ROLE: Role = Role {
    name: "janitor",
    about: "takes away what a controller that was killed has left on the engine",
    run: |arguments| Box::pin(janitor(arguments)),
};

/// What is there because of a run, or because a cluster was asked to stay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// The run's id, or the name of a cluster that stays.
    name: String,
    /// The process it is for; none where it stays until it is asked away.
    owner: Option<Owner>,
    /// Our kind cluster.
    pub(crate) cluster: Option<String>,
    /// The network that kind made for it, where there was none before.
    pub(crate) network: Option<String>,
    /// The image of this program.
    pub(crate) image: Option<String>,
    /// Nodes of a cluster that is not ours, which hold the images.
    pub(crate) nodes: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Owner {
    pid: i32,
    born: u64,
}

impl Ledger {
    /// A fresh one, for this process or, where `stays`, for nobody.
    ///
    /// # Errors
    /// Where there is one of that name already, or it cannot be written.
    pub(crate) fn open(name: &str, stays: bool) -> Result<Self, ClusterError> {
        let pid = nix::unistd::getpid().as_raw();
        let owner = birth(pid).map(|born| Owner { pid, born });
        let ledger = Self {
            name: name.to_owned(),
            owner: owner.filter(|_| !stays),
            cluster: None,
            network: None,
            image: None,
            nodes: Vec::new(),
        };
        if ledger.file().exists() {
            return Err(ClusterError::Missing {
                what: format!("the cluster `{name}` is there already"),
                hint: format!("use it, or remove it with `inroads cluster down --name {name}`"),
            });
        }
        private::make(&ledger.folder())?;
        ledger.write()?;
        Ok(ledger)
    }

    /// Who settles it where this process cannot: engaged before there is anything to settle.
    pub(crate) fn janitor(&self) -> Result<Heir, ClusterError> {
        Heir::appoint(ROLE.name, &self.name)
            .map_err(ClusterError::while_doing("starting the janitor"))
    }

    /// The one of this name.
    pub(crate) fn find(name: &str) -> Result<Option<Self>, ClusterError> {
        let file = base().join(name).join(FILE);
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(using(&file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(using(&file)(error)),
        }
    }

    /// All of this user, by name.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir(base()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<Self> = names
            .filter_map(|name| Self::find(&name).ok().flatten())
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the process it is for is gone.
    pub(crate) fn is_orphan(&self) -> bool {
        self.owner
            .is_some_and(|owner| birth(owner.pid) != Some(owner.born))
    }

    /// The same, of a process that has just let go of its janitor. The kernel closes what a killed process had open a
    /// moment before it counts as gone.
    async fn is_orphaned_soon(&self) -> bool {
        let since = Stopwatch::start();
        while !self.is_orphan() {
            if since.elapsed() > GOING_LIMIT {
                return false;
            }
            tokio::time::sleep(GOING_PAUSE).await;
        }
        true
    }

    /// Whether it stays until it is asked away.
    pub(crate) fn stays(&self) -> bool {
        self.owner.is_none()
    }

    /// Lets the cluster stay behind the process.
    pub(crate) fn keep(&mut self) -> Result<(), ClusterError> {
        self.owner = None;
        self.write()
    }

    pub(crate) fn write(&self) -> Result<(), ClusterError> {
        let text = serde_json::to_vec(self).map_err(using(&self.file()))?;
        private::write(&self.file(), &text)
    }

    /// The kubeconfig of our cluster.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// Where logs of a cluster that did not come up are kept: not in the folder that goes with it.
    pub(crate) fn logs(&self) -> PathBuf {
        std::env::temp_dir().join(format!("inroads-kind-logs-{}", self.name))
    }

    /// The same for a ledger whose cluster may not be made to its end.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub(crate) async fn settle_unfinished(&self, docker: &Docker) -> Result<(), ClusterError> {
        if let Some(cluster) = &self.cluster {
            kind::delete_unfinished(docker, cluster, &self.kubeconfig()).await?;
        }
        self.settle(docker).await
    }

    /// Takes away all that it names, and then itself.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is tried all the same, and the ledger stays.
    pub(crate) async fn settle(&self, docker: &Docker) -> Result<(), ClusterError> {
        let mut outcome = laptops::remove(docker, &self.name).await;
        let images = self.images(docker).await;
        for image in &images {
            program::unload(docker, image, &self.nodes).await;
        }
        if let Some(cluster) = &self.cluster {
            outcome = outcome.and(kind::delete(docker, cluster, &self.kubeconfig()).await);
        }
        if let Some(network) = &self.network {
            // Another cluster may be on it by now, and then it stays.
            let remove = docker.command(["network", "rm", network]);
            drop(remove.run("removing a network").await);
        }
        for image in &images {
            let remove = docker.command(["image", "rm", "--force", image]);
            outcome = outcome.and(remove.run("removing an image").await.map(drop));
        }
        outcome?;
        fs::remove_dir_all(self.folder()).map_err(using(&self.folder()))
    }

    /// The images that are there because of it: that of this program, and those of software that workloads run.
    /// All of them carry its name as their label.
    async fn images(&self, docker: &Docker) -> Vec<String> {
        let label = format!("{RUN_LABEL}={}", self.name);
        let mut images = docker.images_with(&label).await;
        if let Some(image) = &self.image
            && !images.contains(image)
            && docker.has_image(image).await
        {
            images.push(image.clone());
        }
        images
    }

    fn folder(&self) -> PathBuf {
        base().join(&self.name)
    }

    fn file(&self) -> PathBuf {
        self.folder().join(FILE)
    }
}

/// Where ledgers are.
fn base() -> PathBuf {
    private::base().join("kind")
}

const FILE: &str = "ledger.json";

/// Longest time from when a killed process lets go of what it had open to when it is gone, and how often to look.
const GOING_LIMIT: Duration = Duration::from_secs(20);
const GOING_PAUSE: Duration = Duration::from_millis(20);

async fn janitor(arguments: Vec<String>) -> Result<(), RoleError> {
    let name = arguments.first().ok_or("it needs the name of a ledger")?;
    heir::succeed().await?;
    let Some(ledger) = Ledger::find(name)? else {
        return Ok(());
    };
    if ledger.stays() || !ledger.is_orphaned_soon().await {
        return Ok(());
    }
    let docker = Docker::find().await?;
    Ok(ledger.settle_unfinished(&docker).await?)
}

/// Whether `name` can be a folder of ours and a part of a cluster's name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 40
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && Path::new(name).components().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_about_to_go_leaves_an_orphan() {
        let mut going = std::process::Command::new("sleep")
            .arg("0.3")
            .spawn()
            .unwrap();
        let pid = i32::try_from(going.id()).unwrap();
        let born = birth(pid).unwrap();
        let ledger = Ledger {
            name: "test".to_owned(),
            owner: Some(Owner { pid, born }),
            cluster: None,
            network: None,
            image: None,
            nodes: Vec::new(),
        };
        assert!(!ledger.is_orphan(), "it is there yet");
        assert!(ledger.is_orphaned_soon().await);
        going.wait().unwrap();
    }
}
