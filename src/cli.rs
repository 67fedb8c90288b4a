//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use inroads_harness::plan::Handicap;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures the ways into a Kubernetes cluster from an office LAN, side by side: latency, throughput and
/// transparency.
#[derive(Debug, Parser)]
#[command(
    name = "inroads",
    version,
    after_help = "\
Examples:
  inroads bench all                      every method, every scenario
  inroads bench socks wireguard --profile quick
  inroads conform --probe 'dns/*'        which method is transparent to what
  inroads bench forward --peer kubectl   ours beside the real kubectl port-forward and kubectl proxy
  inroads bench all --cluster context=prod-like --laptops 8 --laptops-kubeconfig loaders.yaml
  inroads bench all --baseline last-night/run.json --confirm    measure, and say whether anything became worse
  inroads shell wireguard -- curl -s http://web.inroads.svc.cluster.local/
  inroads shell none                     the same laptop with no way in, to compare
  inroads cluster up && kubectl --kubeconfig \"$(inroads cluster status --kubeconfig)\" get pods -A

Exit codes:
  0  as expected
  1  inroads itself failed, or could not do all that was asked for
  2  the command line cannot be carried out
  3  a regression against the baseline; with `--confirm`, one that a second measurement shows too
  4  a required probe did not come out as it is expected of its method, for better or worse, or as in the baseline
  5  runs that cannot be compared, or a comparison that says nothing: cells are missing or too unclear
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
    Bench(Box<Bench>),
    /// Ask the probes alone, and say which method is transparent to what
    Conform(Asked),
    /// A shell, or one command, on a laptop that a method connects
    Shell(Shell),
    /// Keep a lab or a kind cluster up, for `kubectl` and for several runs
    #[command(subcommand)]
    Cluster(Cluster),
    /// What this machine can run, what it cannot, and why
    Doctor(Doctor),
    /// The methods, scenarios and profiles there are
    List(List),
    /// Remove what an earlier run may have left behind
    Clean(Clean),
    /// Print the rights that `--cluster context` needs, as manifests
    Rbac(Rbac),
    /// Make an image of this program in Docker, for `--agent-image`
    Image {
        /// Its name, such as registry.example/inroads-agent:1
        name: String,
    },
    /// Render a result file again
    Report(Report),
    /// What changed from one run to another
    Compare(Compare),
    /// Whether a run is worse than a baseline: exit code 3 if it is, 4 if a required verdict changed
    Gate(Gate),
    /// How good the gate is on this machine: how often it is wrong with nothing changed, and what it finds
    Selftest(Selftest),
    /// Which method for a team: by its rights and needs, and by what a run saw
    Choose(Choose),
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
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) laptops: LaptopsChoice,
    /// How long and how often to measure: smoke, quick (about two minutes), standard, thorough
    #[arg(long, default_value = "standard")]
    pub(crate) profile: String,
    /// Seed of every random choice, such as the order of methods [default: random]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Measure blocks until the intervals are this narrow, as half their width in percent [default: the profile's]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) precision: Option<u8>,
    /// Measure blocks for so long at most, such as 90s, 20m or 1h, however wide the intervals are; the profile's
    /// fewest blocks are measured in any case
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) budget: Option<Duration>,
    /// Hold the run against this one, and end as `gate` does: a folder, its run.json, or a folder of several; may be
    /// given several times
    #[arg(long, value_name = "RUN")]
    pub(crate) baseline: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) rules: GateRules,
    /// Slow one method down by a relay on its laptop that holds each answer back: to try the gate
    #[arg(long, value_name = "METHOD=TIME", hide = true, value_parser = handicap)]
    pub(crate) handicap: Option<Handicap>,
}

/// When a change is a regression.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GateRules {
    /// Measure again, with the methods in reversed order, what looks worse, and call only that a regression which
    /// is worse both times
    #[arg(long, requires = "baseline")]
    pub(crate) confirm: bool,
    /// What to end with where nothing can be said: fail (exit code 5) or pass (0)
    #[arg(long, value_enum, default_value_t, requires = "baseline")]
    pub(crate) inconclusive: Inconclusive,
    /// Floors, levels and the cells that gate [default: as `inroads list --rules` prints them]
    #[arg(long, value_name = "FILE", requires = "baseline")]
    pub(crate) rules: Option<PathBuf>,
    /// Changes that somebody has looked at and accepts until a day; see docs/GATE.md
    #[arg(long, value_name = "FILE", requires = "baseline")]
    pub(crate) acknowledged: Option<PathBuf>,
}

/// What to end with where nothing can be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inconclusive {
    /// As a failure
    #[default]
    Fail,
    /// As a pass
    Pass,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The earlier run: a folder, or its run.json
    pub(crate) baseline: PathBuf,
    /// The later run
    pub(crate) candidate: PathBuf,
    /// Floors and levels [default: as `inroads list --rules` prints them]
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Gate {
    /// The run to hold it against: a folder, its run.json, or a folder of several. May be given several times: the
    /// more runs, the smaller a change that is seen, and three or more show how much a run moves by chance
    #[arg(long, value_name = "RUN", required = true)]
    pub(crate) baseline: Vec<PathBuf>,
    /// The run to judge
    pub(crate) candidate: PathBuf,
    #[command(flatten)]
    pub(crate) rules: GateRules,
    /// Where to measure again, for `--confirm`
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
    #[command(flatten)]
    pub(crate) laptops: LaptopsChoice,
    /// Also write the comparison to a file, for `report --against`
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Selftest {
    /// The method to slow down; it and the control are measured
    #[arg(default_value = "route")]
    pub(crate) method: String,
    /// How long and how often to measure, in each of its runs
    #[arg(long, default_value = "standard")]
    pub(crate) profile: String,
    /// Runs with nothing changed, at least 2
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=50))]
    pub(crate) runs: u8,
    /// Measure nothing: simulate from these runs, folders or run.json, with nothing changed between them
    #[arg(long, value_name = "RUN", num_args = 2.., conflicts_with_all = ["runs", "profile"])]
    pub(crate) from: Vec<PathBuf>,
    /// Floors and levels [default: as `inroads list --rules` prints them]
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Runs that the baseline of a simulated night has, beside the nights that have one
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=20))]
    pub(crate) baselines: u8,
    /// Nights to simulate from their blocks
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) nights: u32,
    /// Seed of every random choice [default: random]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
    /// Where the runs' folders go
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) out: PathBuf,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A time such as 90s, 20m, 1h.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number with a unit, such as 90s, 20m or 1h".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..end].parse().map_err(|_not_a_number| wrong())?;
    let unit = match &text[end..] {
        "us" => Duration::from_micros(1),
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err(wrong()),
    };
    let number = u32::try_from(number).map_err(|_too_large| wrong())?;
    unit.checked_mul(number).ok_or_else(wrong)
}

/// METHOD=TIME.
fn handicap(text: &str) -> Result<Handicap, String> {
    let (method, delay) = text
        .split_once('=')
        .ok_or("METHOD=TIME, such as route=20us")?;
    Ok(Handicap {
        method: method.parse().map_err(|error| format!("{error}"))?,
        delay: duration(delay)?,
    })
}

/// What is asked, of which methods, where, and where the answer goes.
#[derive(Debug, Args)]
pub(crate) struct Asked {
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
    /// Only probes of this name, in which `*` stands for any text; may be given several times [default: all]
    #[arg(long, value_name = "GLOB")]
    pub(crate) probe: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
    /// Where the run's folder goes
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) out: PathBuf,
    /// Leave the kind cluster that was made for this run standing
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print run.json instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where clients run, if not on the cluster's own laptops.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LaptopsChoice {
    /// Run the clients of each method on so many laptops at once, which are pods of a Kubernetes Job: for load
    /// from more machines than one. Their figures are added up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) laptops: Option<u8>,
    /// The kubeconfig of the cluster that these pods run in [default: the cluster that is measured]
    #[arg(long, value_name = "FILE", requires = "laptops")]
    pub(crate) laptops_kubeconfig: Option<PathBuf>,
    /// The context of it [default: its current one]
    #[arg(long, value_name = "NAME", requires = "laptops")]
    pub(crate) laptops_context: Option<String>,
    /// An image of this program that its nodes can pull; see `inroads image`
    #[arg(long, value_name = "IMAGE", requires = "laptops")]
    pub(crate) laptops_image: Option<String>,
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
    /// The cluster: auto (kind if Docker, kind and a node image are here, else a lab), lab or kind (a fresh
    /// one), lab=NAME or kind=NAME (one that `cluster up` started), context or context=NAME (one that a
    /// kubeconfig names)
    #[arg(
        long,
        value_name = "WHICH",
        env = "INROADS_CLUSTER",
        default_value = "auto"
    )]
    pub(crate) cluster: Which,
    #[command(flatten)]
    pub(crate) kind: KindChoice,
    /// The kubeconfig of `--cluster context` [default: as kubectl: $KUBECONFIG, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// An image of this program that the nodes of `--cluster context` can pull; see `inroads image`
    #[arg(long, value_name = "IMAGE")]
    pub(crate) agent_image: Option<String>,
    /// Do not ask before writing to a cluster that does not look like one for tests
    #[arg(long)]
    pub(crate) yes: bool,
    /// The namespace to work in; it is made, and removed afterwards
    #[arg(long, value_name = "NAME", default_value = "inroads", value_parser = label)]
    pub(crate) namespace: String,
}

/// How a kind cluster is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct KindChoice {
    /// The configuration of a kind cluster: a file, or default (three nodes), single, dual-stack, ipvs,
    /// nftables, ha
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) kind_config: Option<String>,
    /// The image of its nodes [default: one that is here, else kind's own]
    #[arg(long, value_name = "IMAGE", env = "INROADS_NODE_IMAGE")]
    pub(crate) node_image: Option<String>,
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
    /// A kind cluster of our own, fresh.
    Kind,
    /// A kind cluster of ours that is up.
    KindNamed(String),
    /// The cluster of a kubeconfig's context; of the current one, where there is no name.
    Context(Option<String>),
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
            ("kind", None) => Ok(Self::Kind),
            ("kind", Some(name)) => label(name).map(Self::KindNamed),
            ("context", None) => Ok(Self::Context(None)),
            ("context", Some(name)) if !name.is_empty() => {
                Ok(Self::Context(Some(name.to_owned())))
            }
            _ => Err(
                "there are `auto`, `lab`, `lab=NAME`, `kind`, `kind=NAME`, `context` and `context=NAME`"
                    .to_owned(),
            ),
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
    /// Start a cluster that stays; prints the path of a kubeconfig
    Up {
        #[command(flatten)]
        name: ClusterName,
        /// What to start
        #[arg(long, value_enum, default_value_t = Engine::Lab)]
        cluster: Engine,
        #[command(flatten)]
        kind: KindChoice,
        /// The port of this machine's loopback for the API server; 0 takes any
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// End it
    Down {
        #[command(flatten)]
        name: ClusterName,
    },
    /// Whether it is up, and where
    Status {
        #[command(flatten)]
        name: ClusterName,
        /// Print the path of the kubeconfig and nothing else
        #[arg(long, conflicts_with = "json")]
        kubeconfig: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What carries a cluster that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// The embedded one
    Lab,
    /// kind: Kubernetes in Docker
    Kind,
}

#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// Also remove what runs have left in this cluster: context or context=NAME
    #[arg(long, value_name = "WHICH", value_parser = context)]
    pub(crate) cluster: Option<Which>,
    /// Its kubeconfig [default: as kubectl]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace that the runs were told to use
    #[arg(long, value_name = "NAME", default_value = "inroads", value_parser = label)]
    pub(crate) namespace: String,
}

fn context(text: &str) -> Result<Which, String> {
    match text.parse()? {
        which @ Which::Context(_) => Ok(which),
        _ => Err("only `context` and `context=NAME`: the others go with their runs".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rbac {
    /// The namespace that runs will use; the manifests make it
    #[arg(long, value_name = "NAME", default_value = "inroads", value_parser = label)]
    pub(crate) namespace: String,
    /// Without the right to read nodes' metrics, which only the cost of methods needs
    #[arg(long)]
    pub(crate) no_cost: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterName {
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
    /// Print what makes a change a regression, as a file for `--rules`
    #[arg(long, conflicts_with = "json")]
    pub(crate) rules: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// A run's folder, or its run.json
    pub(crate) run: PathBuf,
    /// Another run, of another cluster: show where their verdicts and the order of methods differ, in Markdown
    #[arg(long, value_name = "RUN", conflicts_with = "format")]
    pub(crate) beside: Option<PathBuf>,
    /// An earlier run, a folder of several, or a comparison that `gate --write` wrote: also show what changed since
    #[arg(long, value_name = "RUN|FILE", conflicts_with = "beside")]
    pub(crate) against: Option<PathBuf>,
    /// The form
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write it to a file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Choose {
    /// A run's folder, or its run.json [default: none; then only what methods declare counts]
    pub(crate) run: Option<PathBuf>,
    /// The team's answers [default: they are asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) team: Option<PathBuf>,
    /// Write the answers that were given on the terminal to this file
    #[arg(long, value_name = "FILE", conflicts_with = "team")]
    pub(crate) save: Option<PathBuf>,
    /// Print a file for `--team` with every field, its values and what they mean
    #[arg(long, conflicts_with_all = ["run", "team", "save", "json"])]
    pub(crate) template: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The comparison for a terminal
    Table,
    /// The probes for a terminal
    Matrix,
    /// Everything, in Markdown: fits a CI job's summary
    Md,
    /// Everything, on one page with plots that needs nothing but a browser
    Html,
    /// The result file itself, checked
    Json,
    /// Probes, and with `--against` what gates, as JUnit XML
    Junit,
    /// Every measurement, a line each
    Csv,
    /// For Prometheus
    Openmetrics,
    /// What is better when smaller, for github-action-benchmark (customSmallerIsBetter)
    BenchmarkSmaller,
    /// What is better when bigger, for github-action-benchmark (customBiggerIsBetter)
    BenchmarkBigger,
    /// Bencher Metric Format
    Bencher,
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
        let eks = "arn:aws:eks:eu-1:1:cluster/a=b";
        assert_eq!(
            format!("context={eks}").parse(),
            Ok(Which::Context(Some(eks.to_owned())))
        );
        for text in ["", "lab=", "lab=../x", "minikube", "auto=x", "context="] {
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
