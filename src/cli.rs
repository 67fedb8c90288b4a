//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures the ways into a Kubernetes cluster from an office LAN, side by side: latency, throughput and
/// transparency.
#[derive(Debug, Parser)]
#[command(
    name = "inroads",
    version,
    after_help = "\
Examples:
  inroads bench all                      every method, every scenario, in about four minutes
  inroads bench socks wireguard --profile quick
  inroads bench forward --peer kubectl   ours beside the real kubectl port-forward and kubectl proxy
  inroads shell wireguard -- curl -s http://web.inroads.svc.cluster.local/
  inroads shell none                     the same laptop with no way in, to compare
  inroads cluster up && kubectl --kubeconfig \"$(inroads cluster status --kubeconfig)\" get pods -A

Exit codes:
  0  as expected
  1  inroads itself failed, or could not do all that was asked for
  2  the command line cannot be carried out
  130  interrupted; what was measured is in a valid, partial run.json
  `shell` passes on the code of the command it runs.",
    propagate_version = true
)]
pub(crate) struct Cli {
    /// Say more on standard error; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the scenarios through methods and compare
    Bench(Bench),
    /// A shell, or one command, on a laptop that a method connects
    Shell(Shell),
    /// Keep an embedded cluster up, for `kubectl` and for several runs
    #[command(subcommand)]
    Cluster(Cluster),
    /// What this machine can run, what it cannot, and why
    Doctor(Doctor),
    /// The methods, scenarios and profiles there are
    List(List),
    /// Remove what an earlier run may have left behind
    Clean,
    /// Render a result file again
    Report(Report),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of run.json
    Schema,
    /// What runs on laptops and in pods
    #[command(hide = true)]
    Agent {
        /// Which role
        role: String,
        /// What the role is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The methods, or `all`: the four and the control, with no variants [default: all]
    #[arg(value_name = "METHOD")]
    pub(crate) methods: Vec<String>,
    /// Also what another program makes of the same, beside ours: kubectl (`port-forward` and `proxy`,
    /// as forward:kubectl and forward:kubectl-proxy); may be given several times
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peer: Vec<String>,
    /// Only this scenario; may be given several times [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
    /// How long and how often to measure: smoke, quick (under a minute), standard, thorough
    #[arg(long, default_value = "standard")]
    pub(crate) profile: String,
    /// Seed of every random choice, such as the order of methods [default: random]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where the run's folder goes
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) out: PathBuf,
    /// Print run.json instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// The method that connects the laptop, or `none`
    pub(crate) method: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
    /// The command [default: $SHELL]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Where to work.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterChoice {
    /// The cluster: auto, lab (a fresh one), lab=NAME (one that `cluster up` started)
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub(crate) cluster: Which,
    /// The namespace to work in; it is made, and removed afterwards
    #[arg(long, value_name = "NAME", default_value = "inroads", value_parser = label)]
    pub(crate) namespace: String,
}

/// Which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// Whatever is best here.
    Auto,
    /// A lab of our own, fresh.
    Lab,
    /// A lab that is up.
    LabNamed(String),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text
            .split_once('=')
            .map_or((text, None), |(kind, name)| (kind, Some(name)))
        {
            ("auto", None) => Ok(Self::Auto),
            ("lab", None) => Ok(Self::Lab),
            ("lab", Some(name)) => label(name).map(Self::LabNamed),
            _ => Err("this version has `auto`, `lab` and `lab=NAME`".to_owned()),
        }
    }
}

/// A name of a namespace or of a lab: a label of RFC 1123, as Kubernetes has them.
fn label(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let whole = text.len() <= 63 && text.chars().all(inner);
    if whole && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("a name has up to 63 lower-case letters, digits and `-`, with no `-` at an end".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Start an embedded cluster that stays; prints the path of a kubeconfig
    Up {
        #[command(flatten)]
        name: LabName,
        /// The port of this machine's loopback for the API server; 0 takes any
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// End it
    Down {
        #[command(flatten)]
        name: LabName,
    },
    /// Whether it is up, and where
    Status {
        #[command(flatten)]
        name: LabName,
        /// Print the path of the kubeconfig and nothing else
        #[arg(long, conflicts_with = "json")]
        kubeconfig: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LabName {
    /// Its name, to have several
    #[arg(long, default_value = "inroads", value_parser = label)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// A run's folder, or its run.json
    pub(crate) run: PathBuf,
    /// The form
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The comparison for a terminal
    Table,
    /// Everything, in Markdown
    Md,
    /// The result file itself, checked
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cluster_is_named_by_its_kind() {
        assert_eq!("lab=x".parse(), Ok(Which::LabNamed("x".to_owned())));
        for text in ["", "lab=", "lab=../x", "minikube", "auto=x"] {
            assert!(text.parse::<Which>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_that_kubernetes_takes() {
        for text in ["a", "inroads-2", &"x".repeat(63)] {
            assert_eq!(label(text).as_deref(), Ok(text));
        }
        for text in ["", "Upper", "-a", "a-", "a/b", "a.b", &"x".repeat(64)] {
            assert!(label(text).is_err(), "{text}");
        }
    }
}
