//! The cluster's DNS: a client of the API that answers with what it sees there, as the Kubernetes DNS
//! specification has it, and asks others for the rest. It does the work of CoreDNS, in any cluster.
//!
//! It reads no Corefile and keeps no cache. [`records`] says what it answers.

mod records;
mod responder;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use http::StatusCode;
use inroads_harness::dns::{self, Patience, ResolvConf, Server, Sockets, Upstream};
use inroads_harness::role::{Role, RoleError, told_to_stop};

use crate::flags::{FlagError, Flags};
use crate::pages::{self, Page};
use crate::spec::CLUSTER_DOMAIN;
use records::Identity;
use responder::ClusterDns;

/// `inroads agent cluster-dns`.
pub(crate) const ROLE: Role = Role {
    name: "cluster-dns",
    about: "answers DNS for a cluster, from the objects of its API",
    run: |arguments| Box::pin(run(arguments)),
};

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let settings = Settings::parse(arguments)?;
    let upstream = match settings.upstream.len() {
        0 => None,
        servers => Some(Upstream::new(&settings.upstream, patience(servers))),
    };
    let dns = Arc::new(ClusterDns::new(settings.domain.clone(), upstream));
    let mut server = Server::start(Sockets::bind(settings.listen)?, dns.clone());
    let ready = pages::listen((Ipv4Addr::UNSPECIFIED, READY_PORT).into()).await?;
    let health = pages::listen((Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into()).await?;
    tracing::info!(listen = %settings.listen, upstream = ?settings.upstream, "serving DNS");

    let client = kube::Client::try_from(kube::Config::incluster()?)?;
    let identity = Identity {
        domain: settings.domain,
        addresses: own_addresses()?,
    };
    let lists = dns.clone();
    tokio::select! {
        ended = watch::follow(client, identity, &dns) => Err(ended.into()),
        () = server.ended() => Err("the DNS server ended, which it never should".into()),
        never = pages::serve(ready, move |path| show_ready(path, &lists)) => match never {},
        never = pages::serve(health, show_health) => match never {},
        stopped = told_to_stop() => Ok(stopped?),
    }
}

/// What the role is told on its command line.
#[derive(Debug)]
struct Settings {
    listen: SocketAddr,
    domain: Name,
    upstream: Vec<SocketAddr>,
}

impl Settings {
    fn parse(arguments: Vec<String>) -> Result<Self, SettingsError> {
        let flags = Flags::parse(arguments, &["listen", "domain", "upstream", "conf"])?;
        if flags.has("conf") {
            tracing::info!("`-conf` is for CoreDNS: the flags are all that counts here");
        }
        let upstream = if flags.has("upstream") {
            flags.servers("upstream", dns::PORT)?
        } else {
            resolvers_of_this_host()?
        };
        let domain = flags.value("domain", "a domain", CLUSTER_DOMAIN.to_owned())?;
        Ok(Self {
            listen: flags.value("listen", "an address and a port", ANY)?,
            domain: records::absolute(&domain).ok_or(SettingsError::Domain(domain))?,
            upstream,
        })
    }
}

/// The command line, or what it leaves to this host, makes no sense.
#[derive(Debug, thiserror::Error)]
enum SettingsError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("`{0}` is no domain")]
    Domain(String),
    #[error("reading `{RESOLV_CONF}`")]
    Resolver(#[source] std::io::Error),
}

/// What this host itself asks; in a pod, `dnsPolicy: Default` makes that the node's.
fn resolvers_of_this_host() -> Result<Vec<SocketAddr>, SettingsError> {
    let text = std::fs::read_to_string(RESOLV_CONF).map_err(SettingsError::Resolver)?;
    let servers = ResolvConf::parse(&text).nameservers;
    Ok(servers
        .into_iter()
        .map(|ip| SocketAddr::new(ip, dns::PORT))
        .collect())
}

/// The addresses that others reach this host at.
fn own_addresses() -> nix::Result<Vec<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    Ok(addresses.filter(|address| !address.is_loopback()).collect())
}

/// Ready once all lists are in, as CoreDNS' `ready`: the text names what is missing.
fn show_ready(path: &str, dns: &ClusterDns) -> Page {
    match (path, dns.records()) {
        ("/ready", Some(_)) => pages::plain(StatusCode::OK, "OK"),
        ("/ready", None) => pages::plain(StatusCode::SERVICE_UNAVAILABLE, "kubernetes"),
        _ => pages::not_found(),
    }
}

/// Alive as long as it answers, as CoreDNS' `health`: an API that is away is no reason to be started anew.
fn show_health(path: &str) -> Page {
    match path {
        "/health" => pages::plain(StatusCode::OK, "OK"),
        _ => pages::not_found(),
    }
}

/// Each server is asked, and a client, which waits five seconds, is told in two that none answers.
fn patience(servers: usize) -> Patience {
    let attempts = servers.max(2);
    let share = u32::try_from(attempts).unwrap_or(u32::MAX);
    Patience {
        attempt: UPSTREAM_LIMIT / share,
        attempts,
    }
}

/// How long upstream servers may take together; the rest of two seconds is for the way.
const UPSTREAM_LIMIT: Duration = Duration::from_millis(1800);

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), dns::PORT);

/// Where CoreDNS tells that it is ready and alive, by default.
const READY_PORT: u16 = 8181;
const HEALTH_PORT: u16 = 8080;

const RESOLV_CONF: &str = "/etc/resolv.conf";
