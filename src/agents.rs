//! What this program is on laptops and in pods.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use http::StatusCode;
use inroads_harness::agent::{Repertoire, serve};
use inroads_harness::metrics::{self, Metrics};
use inroads_harness::pages;
use inroads_harness::role::{Role, RoleError, RoleFuture, told_to_stop};
use tokio::net::TcpListener;

use crate::exit::Exit;

/// Everything this program can do.
pub(crate) fn repertoire() -> Repertoire {
    Repertoire {
        methods: inroads_methods::all(),
        scenarios: inroads_scenarios::all(),
        expected: inroads_scenarios::expected(),
        claims: inroads_scenarios::claims,
    }
}

/// The variable that says where a role in a pod shows what it costs.
const METRICS: &str = "INROADS_METRICS";

/// Runs the role of this name.
pub(crate) async fn run(name: &str, arguments: Vec<String>) -> Exit {
    let Some(role) = roles().into_iter().find(|role| role.name == name) else {
        let known: Vec<&str> = roles().iter().map(|role| role.name).collect();
        return Exit::usage(anyhow!(
            "there is no role `{name}`\n(hint: there are {})",
            known.join(", ")
        ));
    };
    if let Err(error) = show_metrics().await {
        return Exit::Failed(error.context(format!("role `{name}`")));
    }
    match until_stopped((role.run)(arguments)).await {
        Ok(()) => Exit::Success,
        Err(error) => Exit::Failed(anyhow!(error).context(format!("role `{name}`"))),
    }
}

fn roles() -> Vec<Role> {
    let ours = [
        Role {
            name: "laptop",
            about: "takes orders on standard input",
            run: |_| -> RoleFuture { Box::pin(laptop()) },
        },
        Role {
            name: "client",
            about: "takes orders on a port",
            run: |a| -> RoleFuture { Box::pin(client(a)) },
        },
    ];
    ours.into_iter()
        .chain(inroads_clusters::roles())
        .chain(inroads_lab::roles())
        .chain(inroads_methods::roles())
        .chain(inroads_scenarios::roles())
        .collect()
}

/// Shows what this process costs, where a manifest says so: a kubelet reads a container's figures every ten
/// seconds only, which is longer than a load.
async fn show_metrics() -> anyhow::Result<()> {
    let Ok(address) = std::env::var(METRICS) else {
        return Ok(());
    };
    let reading = || format!("reading the variable {METRICS}");
    let address: SocketAddr = address.parse().with_context(reading)?;
    let listener = pages::listen(address).await?;
    tokio::spawn(pages::serve(listener, |path| match path {
        "/metrics" => pages::page(
            StatusCode::OK,
            metrics::MEDIA_TYPE,
            Metrics::of_this_process().into_text(),
        ),
        _ => pages::not_found(),
    }));
    Ok(())
}

/// Runs a role until it ends or the process is asked to.
async fn until_stopped(role: RoleFuture) -> Result<(), RoleError> {
    tokio::select! {
        ended = role => ended,
        stopped = told_to_stop() => Ok(stopped?),
    }
}

async fn laptop() -> Result<(), RoleError> {
    serve(
        Arc::new(repertoire()),
        tokio::io::stdin(),
        tokio::io::stdout(),
    )
    .await
}

#[derive(Debug, Parser)]
#[command(name = "client", no_binary_name = true)]
struct ClientArguments {
    /// Where to listen for orders.
    #[arg(long, default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
}

async fn client(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = ClientArguments::try_parse_from(arguments)?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listening on {}", arguments.listen))?;
    let repertoire = Arc::new(repertoire());
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (input, output) = stream.into_split();
        let repertoire = repertoire.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(repertoire, input, output).await {
                tracing::warn!(error, "a controller left");
            }
        });
    }
}
