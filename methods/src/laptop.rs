//! What methods change on a laptop, and how it is undone.
//!
//! Each change is written to a journal before it is made, as what undoes it. Closing undoes all of it,
//! last first; so does dropping, also by a panic. After a SIGKILL the journal is still there: a process that
//! waits for that undoes what is in it, and so does the next connection where that process was killed too.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use inroads_harness::heir::{self, Heir};
use inroads_harness::method::{LaptopNetwork, MethodError};
use inroads_harness::role::{Role, RoleError};
use ipnet::{IpNet, Ipv4Net};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};
use serde::{Deserialize, Serialize};

/// Where journals are: gone with a restart, as the changes are.
const JOURNALS: &str = "/run/inroads";

/// The resolver's file.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// `inroads agent undo`: waits for its input to end, then undoes what a journal still holds.
pub(crate) const ROLE: Role = Role {
    name: "undo",
    about: "undoes what a connection changed on a laptop, should it be killed: JOURNAL",
    run: |arguments| Box::pin(undo(arguments)),
};

/// The changes of one method on this laptop.
pub(crate) struct Changes {
    journal: PathBuf,
    undo: Vec<Undo>,
    heir: Option<Heir>,
}

/// What undoes one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Undo {
    /// Write a file's former text.
    File { path: PathBuf, text: String },
    /// Delete a route.
    Route { to: Ipv4Net, by: By },
}

/// The next hop of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// A router on the LAN.
    Gateway(Ipv4Addr),
    /// A link of this laptop.
    Link(String),
}

impl Changes {
    /// Begins the changes of `method`, after undoing what an earlier connection of it left.
    pub(crate) async fn begin(method: &str) -> Result<Self, MethodError> {
        std::fs::create_dir_all(JOURNALS).map_err(failed(format!("creating `{JOURNALS}`")))?;
        let entries = std::fs::read_dir(JOURNALS).map_err(failed("looking for journals"))?;
        let left = entries.filter_map(|entry| Some(entry.ok()?.path()));
        for journal in left.filter(|path| is_journal_of(path, method)) {
            undo_left(&journal).await?;
        }
        // Named by its writer: an heir must not take the journal of a later connection for its own.
        let name = format!("{method}.{}.journal", std::process::id());
        let journal = Path::new(JOURNALS).join(name);
        let heir =
            Heir::appoint(ROLE.name, &journal).map_err(failed("starting what undoes changes"))?;
        Ok(Self {
            journal,
            undo: Vec::new(),
            heir: Some(heir),
        })
    }

    /// Routes `to` by way of `by`.
    pub(crate) async fn add_route(&mut self, to: Ipv4Net, by: By) -> Result<(), MethodError> {
        self.note(Undo::Route { to, by: by.clone() })?;
        let doing = format!("adding the route to {to}");
        links()?
            .add_route(route(to, &by))
            .await
            .map_err(failed(doing))
    }

    /// Replaces the text of a file, in place: it may be a mount point, which cannot be renamed over.
    pub(crate) fn replace_file(&mut self, path: &str, text: &str) -> Result<(), MethodError> {
        let doing = |what: &str| format!("{what} `{path}`");
        let former = std::fs::read_to_string(path).map_err(failed(doing("reading")))?;
        self.note(Undo::File {
            path: path.into(),
            text: former,
        })?;
        std::fs::write(path, text).map_err(failed(doing("writing")))
    }

    /// Undoes everything, and says what could not be undone.
    pub(crate) async fn close(mut self) -> Result<(), MethodError> {
        self.undo_all().await
    }

    fn note(&mut self, undo: Undo) -> Result<(), MethodError> {
        self.undo.push(undo);
        let text =
            serde_json::to_vec(&self.undo).map_err(failed("writing the journal of changes"))?;
        std::fs::write(&self.journal, text).map_err(failed("writing the journal of changes"))
    }

    async fn undo_all(&mut self) -> Result<(), MethodError> {
        let mut first_error = None;
        while let Some(undo) = self.undo.pop() {
            if let Err(error) = undo.carry_out().await {
                first_error.get_or_insert(error);
            }
        }
        drop(std::fs::remove_file(&self.journal));
        if let Some(heir) = self.heir.take() {
            heir.dismiss();
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Whether a file is the journal of a connection by `method`.
fn is_journal_of(path: &Path, method: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let rest = name.and_then(|name| name.strip_prefix(method)?.strip_prefix('.'));
    rest.is_some_and(|rest| rest.ends_with("journal"))
}

/// Undoes what a journal holds whose connection is gone, unless another does so: who comes second waits.
async fn undo_left(journal: &Path) -> Result<(), MethodError> {
    let Ok(file) = File::open(journal) else {
        return Ok(());
    };
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    let locked = locked.map_err(failed("waiting for a journal"))?;
    let _locked = locked.map_err(failed("locking a journal"))?;
    let Ok(text) = std::fs::read(journal) else {
        return Ok(());
    };
    let mut left = Changes {
        journal: journal.to_owned(),
        undo: serde_json::from_slice(&text).unwrap_or_default(),
        heir: None,
    };
    left.undo_all().await
}

async fn undo(arguments: Vec<String>) -> Result<(), RoleError> {
    let [journal] = arguments.as_slice() else {
        return Err("it is told the journal".into());
    };
    heir::succeed().await?;
    Ok(undo_left(Path::new(journal)).await?)
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        // Dropping cannot await, and may happen on a runtime's thread: another thread does it.
        let mut rest = Self {
            journal: self.journal.clone(),
            undo: std::mem::take(&mut self.undo),
            heir: self.heir.take(),
        };
        let undone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime
                && let Err(error) = runtime.block_on(rest.undo_all())
            {
                tracing::warn!(%error, "undoing changes on this laptop");
            }
        });
        drop(undone.join());
    }
}

impl Undo {
    async fn carry_out(self) -> Result<(), MethodError> {
        match self {
            Self::File { path, text } => std::fs::write(&path, text)
                .map_err(failed(format!("restoring `{}`", path.display()))),
            Self::Route { to, by } => {
                let doing = format!("deleting the route to {to}");
                links()?
                    .del_route_if_exists(route(to, &by))
                    .await
                    .map(drop)
                    .map_err(failed(doing))
            }
        }
    }
}

fn route(to: Ipv4Net, by: &By) -> Ipv4Route {
    let route = Ipv4Route::from_addr(to.network(), to.prefix_len());
    match by {
        By::Gateway(address) => route.gateway(*address),
        By::Link(name) => route.dev(name.clone()),
    }
}

fn links() -> Result<Connection<Route>, MethodError> {
    Connection::<Route>::new().map_err(failed("opening a netlink socket"))
}

fn failed<E>(doing: impl Into<String>) -> impl FnOnce(E) -> MethodError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    MethodError::while_doing(doing)
}

/// Refuses where the laptop already routes a part of `wanted` somewhere: taking it over would cut the
/// laptop off from what is there, and leaving it would hide the cluster.
pub(crate) fn refuse_overlap(
    laptop: &LaptopNetwork,
    wanted: &[(&str, IpNet)],
) -> Result<(), MethodError> {
    for (name, cluster) in wanted {
        let taken = laptop.routes.iter().find(|route| overlap(route, cluster));
        if let Some(route) = taken {
            return Err(MethodError::Refused {
                reason: format!("the cluster's {name} network {cluster} overlaps {route}, which this laptop already routes"),
                hint: "nothing was changed. Use `socks`, which needs no routes, or give the cluster other networks"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Only IPv4 networks can be routed here so far.
pub(crate) fn v4(net: IpNet, name: &str) -> Result<Ipv4Net, MethodError> {
    match net {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(net) => Err(ipv6(&format!("the cluster's {name} network {net}"))),
    }
}

/// The same for an address.
pub(crate) fn v4_address(address: IpAddr, name: &str) -> Result<Ipv4Addr, MethodError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(ipv6(&format!("{name} {address}"))),
    }
}

fn ipv6(what: &str) -> MethodError {
    MethodError::Refused {
        reason: format!("{what} is IPv6, which this method does not route yet"),
        hint: "use `socks` or `forward`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laptop(routes: &[&str]) -> LaptopNetwork {
        LaptopNetwork {
            routes: routes.iter().map(|net| net.parse().unwrap()).collect(),
            ..LaptopNetwork::default()
        }
    }

    #[test]
    fn an_overlap_is_refused_whichever_side_is_larger() {
        let wanted = [("pod", "10.244.0.0/16".parse().unwrap())];
        for routes in [
            &["10.244.7.0/24"][..],
            &["10.0.0.0/8"],
            &["10.244.0.0/16"],
            &["192.168.0.0/16", "10.244.255.255/32"],
        ] {
            let error = refuse_overlap(&laptop(routes), &wanted)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("10.244.0.0/16") && error.contains("nothing was changed"),
                "{error}"
            );
        }
        assert!(refuse_overlap(&laptop(&["192.168.50.0/24", "10.245.0.0/16"]), &wanted).is_ok());
    }

    #[tokio::test]
    async fn dropping_restores_a_file_and_so_does_whoever_finds_the_journal_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let name = file.to_str().unwrap();
        std::fs::write(&file, "before").unwrap();
        let begin = || Changes {
            journal: folder.path().join("x.1.journal"),
            undo: Vec::new(),
            heir: None,
        };

        let mut changes = begin();
        changes.replace_file(name, "after").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "after");
        drop(changes);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");

        let mut killed = begin();
        killed.replace_file(name, "after").unwrap();
        let journal = killed.journal.clone();
        std::mem::forget(killed);
        let (first, second) = tokio::join!(undo_left(&journal), undo_left(&journal));
        first.and(second).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
        assert!(!journal.exists());
    }

    #[test]
    fn a_journal_is_known_by_its_method() {
        let is = |name: &str| is_journal_of(Path::new(name), "route");
        assert!(is("/run/inroads/route.17.journal") && is("/run/inroads/route.journal"));
        assert!(!is("/run/inroads/router.17.journal") && !is("/run/inroads/wireguard.17.journal"));
    }
}
