//! The cluster's DNS: a client of the API that answers with what it sees there, as the Kubernetes DNS
//! specification has it, and asks others for the rest. It does the work of CoreDNS, in any cluster.
//!
//! It reads no Corefile and keeps no cache. [`records`] says what it answers.

mod records;
mod responder;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hickory_proto::rr::Name;
use http::StatusCode;
use inroads_harness::dns::{self, Patience, ResolvConf, Server, Sockets, Upstream};
use inroads_harness::role::{Role, RoleError, told_to_stop};

use crate::spec::CLUSTER_DOMAIN;
use inroads_harness::pages::{self, Page};
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
    if settings.conf.is_some() {
        tracing::info!("`-conf` is for CoreDNS: the flags are all that counts here");
    }
    let servers = match settings.upstream {
        Some(servers) => servers,
        None => resolvers_of_this_host()?,
    };
    let upstream = match servers.len() {
        0 => None,
        count => Some(Upstream::new(&servers, patience(count))),
    };
    let dns = Arc::new(ClusterDns::new(settings.domain.clone(), upstream));
    let mut server = Server::start(Sockets::bind(settings.listen)?, dns.clone());
    let ready = pages::listen((Ipv4Addr::UNSPECIFIED, READY_PORT).into()).await?;
    let health = pages::listen((Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into()).await?;
    tracing::info!(listen = %settings.listen, upstream = ?servers, "serving DNS");

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
#[derive(Debug, Parser)]
#[command(name = ROLE.name, about = ROLE.about, no_binary_name = true)]
struct Settings {
    /// Where to answer, over UDP and TCP.
    #[arg(long, default_value_t = ANY)]
    listen: SocketAddr,
    /// The cluster's domain.
    #[arg(long, default_value = CLUSTER_DOMAIN, value_parser = parse_domain)]
    domain: Name,
    /// Servers to ask for the rest, otherwise those that this host asks. With no value: none.
    #[arg(long, num_args = 0.., value_parser = parse_server)]
    upstream: Option<Vec<SocketAddr>>,
    /// CoreDNS' configuration file, which clusters give their DNS: it is not read.
    #[arg(long)]
    conf: Option<PathBuf>,
}

impl Settings {
    fn parse(arguments: Vec<String>) -> Result<Self, clap::Error> {
        // CoreDNS is a Go program: one dash is enough for it.
        let arguments =
            arguments
                .into_iter()
                .map(|argument| match argument.strip_prefix("-conf") {
                    Some(rest) if rest.is_empty() || rest.starts_with('=') => {
                        format!("--conf{rest}")
                    }
                    _ => argument,
                });
        Self::try_parse_from(arguments)
    }
}

fn parse_domain(text: &str) -> Result<Name, String> {
    records::absolute(text).ok_or_else(|| format!("`{text}` is no domain"))
}

/// An address, with DNS' port where it has none.
fn parse_server(text: &str) -> Result<SocketAddr, AddrParseError> {
    let bare = text
        .parse()
        .map(|ip: IpAddr| SocketAddr::new(ip, dns::PORT));
    bare.or_else(|_| text.parse())
}

/// Nobody says whom this host asks.
#[derive(Debug, thiserror::Error)]
#[error("reading `{RESOLV_CONF}`\n(hint: name the servers with `--upstream`)")]
struct ResolverError(#[source] std::io::Error);

/// What this host itself asks; in a pod, `dnsPolicy: Default` makes that the node's.
fn resolvers_of_this_host() -> Result<Vec<SocketAddr>, ResolverError> {
    let text = std::fs::read_to_string(RESOLV_CONF).map_err(ResolverError)?;
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
