//! The result file, `run.json`: what one run did, saw and measured.
//!
//! Every report renders from this alone. The JSON Schema generated from these types is committed as
//! `reports/schema/run-v1.json`; a field is only ever added, and an old file stays readable.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Effort;
use crate::expected::Outcome;
use crate::ids::MethodId;

/// The version of the format that this program writes.
pub const SCHEMA_VERSION: u32 = 1;

/// The method that all others are held against: the same client in a pod.
pub const CONTROL: &str = "direct";

/// One run, whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Always [`SCHEMA_VERSION`] in a file this program wrote.
    pub schema_version: u32,
    /// Who, when, how.
    pub run: RunInfo,
    /// Where it ran.
    pub environment: Environment,
    /// The methods that were run, in report order.
    pub methods: Vec<MethodInfo>,
    /// The scenarios that were run, in report order.
    pub scenarios: Vec<ScenarioInfo>,
    /// One entry for each probe and method.
    pub probes: Vec<ProbeResult>,
    /// One entry for each metric of each cell (method, scenario, block).
    pub measurements: Vec<Measurement>,
    /// Statistics over blocks, with ratios to `direct`.
    pub summary: Vec<Summary>,
    /// The article's claims, answered.
    pub claims: Vec<Claim>,
    /// What a reader must know before trusting the figures.
    pub warnings: Vec<Warning>,
}

/// Who, when, how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// Date, time and a random part: also the folder's name.
    pub id: String,
    /// Whether everything that was asked for was done.
    pub status: Status,
    /// The command line, without the program's path.
    pub command: String,
    /// The measuring profile, `quick`, `standard` or `thorough`.
    pub profile: String,
    /// Seeds the order of methods within blocks.
    pub seed: u64,
    /// Start, UTC.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// End, UTC; absent while the run goes on and where it was killed.
    #[schemars(with = "Option<String>")]
    pub finished_at: Option<Timestamp>,
}

/// Whether everything that was asked for was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// All of it.
    Complete,
    /// Interrupted, or a part could not be run.
    Partial,
    /// The harness itself failed.
    Failed,
}

/// Where a run took place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// This program's version.
    pub inroads: String,
    /// `optimised` or `debug`: figures of a debug build are not comparable.
    pub build_profile: String,
    /// `uname -r`.
    pub kernel: String,
    /// The processor's model name.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub cores: usize,
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Laptops beyond the usual one for each method; absent where there is that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub laptops: Option<LaptopsInfo>,
    /// Every part whose figures stand in the file, with its version.
    pub components: Vec<Component>,
    /// Runs with equal keys can be compared: it names everything above that moves figures.
    pub comparable_key: String,
}

/// The cluster a run used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ClusterInfo {
    /// `lab`, `kind` or `context`.
    pub kind: String,
    /// The API server's version.
    pub kubernetes: String,
    /// What connects pods.
    pub cni: String,
    /// What implements Services.
    pub kube_proxy: String,
    /// Nodes, the control plane's included.
    pub nodes: usize,
}

/// Laptops that are pods, and run loads together.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LaptopsInfo {
    /// How many for each method.
    pub count: usize,
    /// Where they run.
    pub place: String,
}

/// A part whose behaviour stands in the results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// Such as `redis-server`, or `wireguard driver on the laptop`.
    pub name: String,
    /// Its version, or which implementation was taken.
    pub version: String,
    /// Whether it is the thing itself.
    pub provenance: Provenance,
}

/// Whether a component is the thing itself or ours in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// The thing itself.
    Real,
    /// Ours, in its place; reports say so beside every figure that touched it.
    StandIn,
}

/// A method as it was run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MethodInfo {
    /// Its id.
    pub id: MethodId,
    /// Its name for humans.
    pub title: String,
    /// Rights and settings it needs, and from whom.
    pub needs: Vec<String>,
    /// From the first object applied until the first answer through it, in milliseconds.
    pub setup_ms: Option<f64>,
    /// What it carries: `tcp`, `udp`, `icmp`, `dns`, `pod-ip`, `cluster-ip`.
    pub exposes: Vec<String>,
}

/// A scenario as it was run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioInfo {
    /// Its id.
    pub id: String,
    /// Its name for humans.
    pub title: String,
}

/// The answer to one probe through one method.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProbeResult {
    /// The probe, `group/name`.
    pub id: String,
    /// The method it went through.
    pub method: MethodId,
    /// Whether transparency requires it.
    pub level: Level,
    /// The outcome.
    pub verdict: Verdict,
    /// The least effort at which it passed.
    pub effort: Option<Effort>,
    /// How it was expected to come out; absent where nothing is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<Outcome>,
    /// What a client in a pod would see.
    pub expected: String,
    /// What was seen, attempt by attempt.
    pub seen: String,
    /// Why it is not a pass, or what a pass took.
    pub reason: Option<String>,
    /// All attempts together, in milliseconds.
    pub duration_ms: f64,
}

/// Whether transparency requires a probe to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It does.
    Must,
    /// It is good to have.
    Should,
}

/// The outcome of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It works, at the effort that stands beside.
    Pass,
    /// It was tried and is wrong.
    Fail,
    /// It was tried, and the method cannot carry it by design.
    Unsupported,
    /// It was not tried; the reason stands beside. Never counts as a pass.
    NotRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsupported => "unsupported",
            Self::NotRun => "not-run",
        })
    }
}

/// One figure of one cell.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// The method it went through.
    pub method: MethodId,
    /// The scenario.
    pub scenario: String,
    /// Which figure, such as `latency` or `requests`.
    pub metric: String,
    /// The unit of `value` and of the percentiles.
    pub unit: Unit,
    /// The block, from 0.
    pub block: u32,
    /// The effort the client was set up with.
    pub access: Effort,
    /// Operations, after warm-up, that the figure rests on.
    pub count: u64,
    /// The figure: a rate, or for latencies the median.
    pub value: f64,
    /// 50th percentile of a latency, where `count` carries it (at least 10 values above).
    pub p50: Option<f64>,
    /// 90th percentile, likewise.
    pub p90: Option<f64>,
    /// 99th percentile, likewise.
    pub p99: Option<f64>,
    /// The largest value seen.
    pub max: Option<f64>,
    /// Operations that failed; never counted in `value`.
    pub errors: u64,
    /// All values of a latency: an HdrHistogram V2 log of nanoseconds, deflated, in base64.
    pub histogram: Option<String>,
    /// Whether the figure may be used.
    pub valid: bool,
    /// Why not.
    pub invalid_reason: Option<String>,
}

#[cfg(test)]
impl Measurement {
    /// A valid figure of scenario `http`, for tests: method, metric and unit; block; value.
    pub(crate) fn sample(
        (method, metric, unit): (&str, &str, Unit),
        block: u32,
        value: f64,
    ) -> Self {
        Self {
            method: method.parse().expect("a method's name"),
            scenario: "http".to_owned(),
            metric: metric.to_owned(),
            unit,
            block,
            access: Effort::Unmodified,
            count: 1,
            value,
            p50: None,
            p90: None,
            p99: None,
            max: None,
            errors: 0,
            histogram: None,
            valid: true,
            invalid_reason: None,
        }
    }
}

/// The unit of a figure; it also says which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Operations each second.
    #[serde(rename = "per_s")]
    PerSecond,
    /// Bytes each second.
    #[serde(rename = "bytes_per_s")]
    BytesPerSecond,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
}

impl Unit {
    /// Whether a larger figure is the better one.
    #[must_use]
    pub fn larger_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::BytesPerSecond)
    }

    /// As it is serialised.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microseconds => "us",
            Self::Seconds => "s",
            Self::PerSecond => "per_s",
            Self::BytesPerSecond => "bytes_per_s",
            Self::Bytes => "bytes",
        }
    }
}

/// One metric of one method and scenario, over all valid blocks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The method.
    pub method: MethodId,
    /// The scenario.
    pub scenario: String,
    /// The metric.
    pub metric: String,
    /// The unit of the median and its interval.
    pub unit: Unit,
    /// Median of the blocks' values.
    pub median: f64,
    /// 95% interval of the mean of the logarithms, taken back; absent below 3 blocks.
    pub ci_low: Option<f64>,
    /// Its upper end.
    pub ci_high: Option<f64>,
    /// Geometric mean of the per-block ratios to `direct`; absent where `direct` was not run.
    pub ratio_to_direct: Option<f64>,
    /// 95% t-interval over the per-block log-ratios; absent below 3 blocks.
    pub ratio_ci_low: Option<f64>,
    /// Its upper end.
    pub ratio_ci_high: Option<f64>,
    /// Valid blocks the line rests on.
    pub blocks: u32,
}

/// A claim of the source article, answered from the run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// Its number in the catalogue.
    pub id: String,
    /// What the article says.
    pub claim: String,
    /// The answer.
    pub verdict: ClaimVerdict,
    /// What was seen; of `depends`, on what.
    pub evidence: String,
    /// The probes it rests on.
    #[serde(default)]
    pub probes: Vec<String>,
    /// The figures it rests on, as `scenario/metric`.
    #[serde(default)]
    pub figures: Vec<String>,
    /// The command that asks again.
    #[serde(default)]
    pub redo: String,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimVerdict {
    /// The run agrees.
    Upheld,
    /// The run disagrees.
    Refuted,
    /// It is true under a condition, which the evidence names.
    Depends,
    /// The run does not show it.
    NotShown,
}

/// The kind of a warning that something of the run may still be in the cluster.
pub const LEFT_BEHIND: &str = "left-behind";

/// The kind of a warning that what carries a method ended by itself and was started again.
pub const INTERRUPTED: &str = "interrupted";

/// Something a reader must know before trusting the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// A stable id, such as `rate-missed`.
    pub kind: String,
    /// What was seen.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}
