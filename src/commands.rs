//! The commands, one module each.

pub(crate) mod bench;
pub(crate) mod clean;
pub(crate) mod cluster;
pub(crate) mod doctor;
pub(crate) mod list;
pub(crate) mod report;
pub(crate) mod shell;

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;
use inroads_harness::Cluster;
use inroads_harness::method::{Method, Vantage};
use inroads_lab::{Lab, LabOptions, LabState, Status};

use crate::cli::{Cli, Which};
use crate::exit::Exit;
use crate::progress::Progress;

/// Prints completions for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inroads", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the schema of the result file.
pub(crate) fn schema() -> anyhow::Result<()> {
    print(&inroads_reports::schema())
}

/// Writes a result to standard output. A reader that has left is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// The laptops of a lab: one for each of `methods` that has one, and one for none.
fn laptops(methods: &[&dyn Method]) -> Vec<String> {
    let on_laptops = methods
        .iter()
        .filter(|method| method.vantage() == Vantage::Laptop);
    on_laptops
        .map(|method| method.id().as_label())
        .chain(["none".to_owned()])
        .collect()
}

/// Gets the cluster that was asked for, with laptops for `methods` where it is made for this, and says which
/// and why.
async fn cluster(
    which: &Which,
    methods: &[&dyn Method],
    progress: &Progress,
) -> Result<Box<dyn Cluster>, Exit> {
    match which {
        Which::LabNamed(name) => match LabState::find(name).map_err(Exit::failed)? {
            Status::Up(state) => Ok(Box::new(Lab::attach(&state).map_err(Exit::failed)?)),
            Status::Absent | Status::Dead => Err(Exit::usage(anyhow::anyhow!(
                "there is no lab `{name}`\n(hint: start it with `inroads cluster up --name {name}`)"
            ))),
        },
        Which::Auto | Which::Lab => {
            if *which == Which::Auto {
                progress.step("cluster: an embedded lab, which needs nothing installed");
            }
            let options = LabOptions {
                laptops: laptops(methods),
                api_port: 0,
            };
            let lab = Lab::start(options, |step| progress.step(&format!("lab: {step}")))
                .await
                .map_err(Exit::failed)?;
            progress.say(&format!(
                "lab ready after {:.2} s",
                lab.ready_after().as_secs_f64()
            ));
            Ok(Box::new(lab))
        }
    }
}
