//! `inroads`: measures the ways into a Kubernetes cluster, side by side.
//!
//! This binary only wires: the engine is `inroads-harness`, and clusters, methods, scenarios and reports
//! are crates of their own. It is also what runs inside laptops, pods and the lab, under the hidden
//! subcommands `agent` and `lab`.

mod agents;
mod cli;
mod commands;
mod exit;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;
use inroads_harness::descriptors;

use cli::{Cli, Command};
use exit::Exit;

fn main() -> ExitCode {
    // Whoever needs more than there is finds out where it opens one too many.
    let _ = descriptors::raise_limit();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    // The lab's processes make namespaces and fork: nothing may start a thread before them.
    if let Some((first, rest)) = arguments.split_first()
        && first == "lab"
    {
        install_crypto();
        return inroads_lab::main(rest);
    }
    let cli = Cli::parse();
    install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Exit::failed(anyhow::Error::new(error).context("starting the runtime"))
                .report();
        }
    };
    let exit = runtime.block_on(run(cli));
    // A thread that still waits for input must not hold the process.
    runtime.shutdown_background();
    exit.report()
}

async fn run(cli: Cli) -> Exit {
    start_log(cli.verbose);
    let outcome = match cli.command {
        Command::Bench(arguments) => return commands::bench::run(*arguments).await,
        Command::Conform(arguments) => return commands::bench::conform(arguments).await,
        Command::Shell(arguments) => return commands::shell::run(arguments).await,
        Command::Gate(arguments) => return commands::gate::run(arguments).await,
        Command::Compare(arguments) => return commands::gate::compare(&arguments),
        Command::Selftest(arguments) => return commands::selftest::run(arguments).await,
        Command::Doctor(arguments) => return commands::doctor::run(&arguments).await,
        Command::Cluster(command) => commands::cluster::run(command).await,
        Command::List(arguments) => commands::list::run(&arguments),
        Command::Clean(arguments) => commands::clean::run(&arguments).await,
        Command::Rbac(arguments) => commands::rbac(&arguments),
        Command::Image { name } => commands::image(&name).await,
        Command::Choose(arguments) => return commands::choose::run(arguments).await,
        Command::Report(arguments) => commands::report::run(&arguments),
        Command::Completions { shell } => commands::completions(shell),
        Command::Schema => commands::schema(),
        Command::Agent { role, arguments } => return agents::run(&role, arguments).await,
    };
    outcome.map_or_else(Exit::failed, |()| Exit::Success)
}

/// rustls takes one provider for the whole process; ring is the only one that is compiled in.
fn install_crypto() {
    // It can only be there already.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Talk goes to standard error; standard output is for results.
fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}
