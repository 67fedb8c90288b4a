//! What this program is on laptops and in pods.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use inroads_harness::agent::{Repertoire, serve};
use inroads_harness::role::{Role, RoleError, RoleFuture, told_to_stop};
use tokio::net::TcpListener;

use crate::exit::Exit;

/// Everything this program can do.
pub(crate) fn repertoire() -> Repertoire {
    Repertoire {
        methods: inroads_methods::all(),
        scenarios: inroads_scenarios::all(),
    }
}

/// Runs the role of this name.
pub(crate) async fn run(name: &str, arguments: Vec<String>) -> Exit {
    let Some(role) = roles().into_iter().find(|role| role.name == name) else {
        let known: Vec<&str> = roles().iter().map(|role| role.name).collect();
        return Exit::usage(anyhow!(
            "there is no role `{name}`\n(hint: there are {})",
            known.join(", ")
        ));
    };
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
