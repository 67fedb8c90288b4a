//! The official driver, set up for one access, and what it was told while it worked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inroads_harness::access::{Access, AddressMap};
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::scenario::Workload;
use mongodb::Client;
use mongodb::bson::doc;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{ClientOptions, ServerAddress, Socks5Proxy};
use mongodb::{ServerType, error::Error};

use super::{MEMBERS, PORT, SERVICE, SET};

/// How long the driver looks for a server: its own default is 30 s, longer than one attempt may take. Where it can
/// be found at all it is within milliseconds.
pub(super) const SELECTION_LIMIT: Duration = Duration::from_secs(2);

/// Longest time for a client to end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// How the driver is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// As a client of the replica set: `replicaSet=`, and all else by default.
    Set,
    /// As a client of one server, which need be no set: `directConnection=true`.
    Direct,
}

/// The names of the members, as they announce them.
pub(super) fn names(workload: &Workload) -> Vec<String> {
    let service = workload.fqdn(SERVICE);
    let names = (0..MEMBERS).map(|number| format!("{SERVICE}-{number}.{service}"));
    names.collect()
}

/// What the driver is given for `mode`, and what of it a client in a pod would not be given.
pub(super) async fn options(
    dialer: &Dialer,
    workload: &Workload,
    mode: Mode,
) -> Result<(ClientOptions, String), OpError> {
    let names = names(workload);
    let mut changed = format!("serverSelectionTimeoutMS={}", SELECTION_LIMIT.as_millis());
    let mut proxy = None;
    let hosts: Vec<String> = match dialer.access() {
        Access::Unmodified => names.iter().map(|name| format!("{name}:{PORT}")).collect(),
        Access::Socks5 {
            proxy: at,
            username,
            password,
        } => {
            changed += ", proxyHost, proxyPort, proxyUsername, proxyPassword";
            let socks = Socks5Proxy::builder()
                .host(at.ip().to_string())
                .port(at.port())
                .authentication((username.clone(), password.expose().clone()))
                .build();
            proxy = Some(socks);
            names.iter().map(|name| format!("{name}:{PORT}")).collect()
        }
        Access::Rewritten(map) => {
            changed += ", localhost in the place of the members' names";
            listeners(map, &names)?
        }
        Access::UrlPrefix { .. } => {
            return Err(OpError(
                "this access carries HTTP requests alone".to_owned(),
            ));
        }
    };
    let mut options = match mode {
        Mode::Set => parsed(&hosts, &format!("replicaSet={SET}")).await?,
        Mode::Direct => {
            changed += ", directConnection=true";
            let primary = primary_among(&hosts, proxy.as_ref()).await?;
            parsed(&[primary], "directConnection=true").await?
        }
    };
    options.socks5_proxy = proxy;
    options.server_selection_timeout = Some(SELECTION_LIMIT);
    Ok((options, changed))
}

/// The listeners that stand in for the members.
fn listeners(map: &AddressMap, names: &[String]) -> Result<Vec<String>, OpError> {
    let found = names.iter().map(|name| {
        let at = map.find(name, PORT);
        at.map(ToString::to_string)
            .ok_or_else(|| OpError(format!("no listener stands in for {name}:{PORT}")))
    });
    found.collect()
}

async fn parsed(hosts: &[String], query: &str) -> Result<ClientOptions, OpError> {
    let uri = format!("mongodb://{}/?{query}", hosts.join(","));
    ClientOptions::parse(uri).await.map_err(op_error)
}

/// Which of these addresses is the primary's: a user who must name one server has to find it out by hand.
async fn primary_among(hosts: &[String], proxy: Option<&Socks5Proxy>) -> Result<String, OpError> {
    let mut said = Vec::new();
    for host in hosts {
        let mut options = parsed(std::slice::from_ref(host), "directConnection=true").await?;
        options.socks5_proxy = proxy.cloned();
        options.server_selection_timeout = Some(Duration::from_secs(2));
        let client = Client::with_options(options).map_err(op_error)?;
        let hello = client
            .database("admin")
            .run_command(doc! { "hello": 1 })
            .await;
        end(client).await;
        match hello {
            Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or(false) => {
                return Ok(host.clone());
            }
            Ok(_) => said.push(format!("{host} is a secondary")),
            Err(error) => said.push(format!("{host}: {}", in_short(&error))),
        }
    }
    Err(OpError(format!("no primary: {}", said.join("; "))))
}

/// Ends a client and its monitors, as far as they end in time.
pub(super) async fn end(client: Client) {
    drop(tokio::time::timeout(END_LIMIT, client.shutdown().immediate(true)).await);
}

/// What the driver says, without the topology that it adds: [`Seen::trouble`] tells that.
pub(super) fn in_short(error: &Error) -> String {
    let text = error.kind.to_string();
    let text = text.lines().next().unwrap_or_default();
    let (text, _) = text.split_once(" Topology:").unwrap_or((text, ""));
    text.trim_end_matches('.').to_owned()
}

pub(super) fn op_error(error: Error) -> OpError {
    OpError(in_short(&error))
}

/// What the driver was told, and by whom its commands were answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// What each server is, by the address that the driver has for it.
    servers: BTreeMap<String, ServerType>,
    /// Why a server could not be asked.
    unreachable: BTreeMap<String, String>,
    /// All addresses there have been.
    addresses: BTreeSet<String>,
    /// By whom the last command of each name was answered.
    answered: BTreeMap<String, String>,
}

impl Seen {
    /// Has the driver tell.
    pub(super) fn watch(&self, options: &mut ClientOptions) {
        let told = self.0.clone();
        options.sdam_event_handler = Some(EventHandler::callback(move |event: SdamEvent| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                SdamEvent::ServerDescriptionChanged(change) => {
                    let kind = change.new_description.server_type();
                    let address = address(&change.address);
                    told.addresses.insert(address.clone());
                    told.servers.insert(address, kind);
                }
                SdamEvent::ServerOpening(opening) => {
                    told.addresses.insert(address(&opening.address));
                }
                SdamEvent::ServerHeartbeatFailed(failed) => {
                    let why = in_short(&failed.failure);
                    told.unreachable
                        .insert(address(&failed.server_address), why);
                }
                _ => {}
            }
        }));
        let told = self.0.clone();
        let answered = move |event: CommandEvent| {
            if let CommandEvent::Succeeded(command) = event {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                let by = address(&command.connection.address);
                told.answered.insert(command.command_name, by);
            }
        };
        options.command_event_handler = Some(EventHandler::callback(answered));
    }

    /// By whom the last command of this name was answered.
    pub(super) fn answered(&self, command: &str) -> Option<String> {
        self.told().answered.get(command).cloned()
    }

    /// What the server at `address` is.
    pub(super) fn kind(&self, address: &str) -> Option<ServerType> {
        self.told().servers.get(address).copied()
    }

    /// All addresses that the driver was told.
    pub(super) fn addresses(&self) -> BTreeSet<String> {
        self.told().addresses.clone()
    }

    /// What went wrong, for the evidence: whom the driver was told of and could not reach.
    pub(super) fn trouble(&self) -> String {
        let told = self.told();
        let names: Vec<&str> = told.addresses.iter().map(|name| short(name)).collect();
        let mut text = format!("told of {}", names.join(", "));
        if let Some((address, why)) = told.unreachable.iter().next_back() {
            let more = told.unreachable.len();
            text += &format!("; could not reach {more} of them, the last {address}: {why}");
        }
        text
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first label of a name, which is the pod's; addresses stay whole.
pub(super) fn short(address: &str) -> &str {
    match address.split_once('.') {
        Some((pod, _)) if pod.starts_with(SERVICE) => pod,
        _ => address,
    }
}

fn address(address: &ServerAddress) -> String {
    address.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use inroads_harness::access::{PrefixMap, Secret};

    use super::*;

    fn workload() -> Workload {
        Workload {
            namespace: "team".to_owned(),
            domain: "cluster.local".to_owned(),
            ..Workload::default()
        }
    }

    async fn of(access: Access) -> Result<(ClientOptions, String), OpError> {
        options(&Dialer::new(access), &workload(), Mode::Set).await
    }

    #[tokio::test]
    async fn an_unmodified_client_has_the_members_names_and_the_set_and_no_more() {
        let (options, changed) = of(Access::Unmodified).await.unwrap();
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts[2], "mongo-2.mongo.team.svc.cluster.local:27017");
        assert_eq!(hosts.len(), MEMBERS);
        assert_eq!(options.repl_set_name.as_deref(), Some(SET));
        assert!(options.socks5_proxy.is_none() && options.direct_connection.is_none());
        assert_eq!(changed, "serverSelectionTimeoutMS=2000");
    }

    #[tokio::test]
    async fn by_a_proxy_the_evidence_names_the_options_and_not_the_password() {
        let proxy = SocketAddr::from(([192, 168, 50, 11], 31_080));
        let access = Access::Socks5 {
            proxy,
            username: "inroads".to_owned(),
            password: Secret::new("hunter2".to_owned()),
        };
        let (options, changed) = of(access).await.unwrap();
        let socks = options.socks5_proxy.unwrap();
        assert_eq!(
            (socks.host.as_str(), socks.port),
            ("192.168.50.11", Some(31_080))
        );
        assert!(changed.contains("proxyPassword") && !changed.contains("hunter2"));
    }

    #[tokio::test]
    async fn what_cannot_carry_the_protocol_says_so() {
        let unmapped = of(Access::Rewritten(AddressMap::default())).await;
        assert!(unmapped.unwrap_err().0.contains("mongo-0.mongo.team"));
        let server = SocketAddr::from(([127, 0, 0, 1], 8001));
        let prefixes = PrefixMap::default();
        let by_path = of(Access::UrlPrefix { server, prefixes }).await;
        assert!(by_path.unwrap_err().0.contains("HTTP"));
    }

    #[test]
    fn pods_are_shown_by_their_names_and_listeners_by_their_addresses() {
        assert_eq!(
            short("mongo-1.mongo.team.svc.cluster.local:27017"),
            "mongo-1"
        );
        assert_eq!(short("127.0.0.1:40001"), "127.0.0.1:40001");
    }
}
