//! The office's server: DNS for the office's own zone, and a page. There is no Internet behind it, so it
//! plays the root too: what is not the office's does not exist.
//!
//! It remembers the names that it was asked for, so that a name of the cluster that leaks out is seen.

mod asked;
#[cfg(test)]
mod tests;
mod zones;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clap::Parser;
use http::StatusCode;
use inroads_harness::dns::{self, ListenError, Reply, Responder, Server, Sockets};
use inroads_harness::role::{Role, RoleError, told_to_stop};

use crate::authority::Request;
use crate::spec::{OFFICE_DOMAIN, addresses};
use asked::Asked;
use inroads_harness::pages::{self, Page};
use zones::Zones;

/// `inroads agent office`.
pub(crate) const ROLE: Role = Role {
    name: "office",
    about: "is an office's DNS and web server",
    run: |arguments| Box::pin(run(arguments)),
};

/// The page of the names that were asked for.
pub(crate) const LOG_PATH: &str = "/dns-log";

/// What an office is made of.
#[derive(Debug, Clone, Parser)]
#[command(name = ROLE.name, about = ROLE.about, no_binary_name = true)]
pub(crate) struct Settings {
    /// Where it answers DNS.
    #[arg(long, default_value_t = Self::default().listen)]
    pub(crate) listen: SocketAddr,
    /// Where it shows its pages.
    #[arg(long, default_value_t = Self::default().web)]
    pub(crate) web: SocketAddr,
    /// Its zone.
    #[arg(long, default_value_t = Self::default().domain)]
    pub(crate) domain: String,
    /// The address of this server: of its names `intranet`, `dns` and `mail`.
    #[arg(long, default_value_t = Self::default().address)]
    pub(crate) address: Ipv4Addr,
    /// The address of the name `router`.
    #[arg(long, default_value_t = Self::default().router)]
    pub(crate) router: Ipv4Addr,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, dns::PORT).into(),
            web: (Ipv4Addr::UNSPECIFIED, 80).into(),
            domain: OFFICE_DOMAIN.to_owned(),
            address: addresses::OFFICE,
            router: addresses::ROUTER,
        }
    }
}

/// Is an office, for as long as it is polled.
///
/// # Errors
/// Where it cannot listen, or the domain is none.
pub(crate) async fn run_office(settings: Settings) -> Result<(), OfficeError> {
    let zones =
        Zones::new(&settings).ok_or_else(|| OfficeError::Domain(settings.domain.clone()))?;
    let office = Arc::new(Office {
        zones,
        asked: Asked::default(),
    });
    let mut server = Server::start(Sockets::bind(settings.listen)?, office.clone());
    let web = pages::listen(settings.web).await?;
    tracing::info!(dns = %settings.listen, web = %settings.web, "the office is open");
    let domain = settings.domain;
    tokio::select! {
        () = server.ended() => Err(OfficeError::Ended),
        never = pages::serve(web, move |path| show(path, &domain, &office.asked)) => match never {},
    }
}

/// There is no office.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfficeError {
    #[error("`{0}` is no domain")]
    Domain(String),
    #[error(transparent)]
    Dns(#[from] ListenError),
    #[error(transparent)]
    Web(#[from] pages::ListenError),
    #[error("the office's DNS server ended, which it never should")]
    Ended,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let settings = Settings::try_parse_from(arguments)?;
    tokio::select! {
        ended = run_office(settings) => Ok(ended?),
        stopped = told_to_stop() => Ok(stopped?),
    }
}

struct Office {
    zones: Zones,
    asked: Asked,
}

impl Responder for Office {
    fn respond(&self, bytes: &[u8], reply: Reply) {
        let Some((request, reply)) = Request::accept(bytes, reply) else {
            return;
        };
        let query = request.query();
        self.asked.note(reply.client().ip(), query);
        let answer = self.zones.answer(query.name(), query.query_type());
        reply.send(&answer.encode(&request));
    }
}

fn show(path: &str, domain: &str, asked: &Asked) -> Page {
    match path {
        "/" => pages::page(StatusCode::OK, "text/html; charset=utf-8", intranet(domain)),
        LOG_PATH => pages::page(StatusCode::OK, "application/x-ndjson", asked.lines()),
        _ => pages::not_found(),
    }
}

fn intranet(domain: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<title>intranet.{domain}</title>\n<h1>The office's intranet</h1>\n\
         <p>Lunch is at noon. Whoever reads this from home has found a way in.</p>\n\
         <p>Names that were asked for here: <a href=\"/dns-log\">/dns-log</a></p>\n</html>\n"
    )
}
