//! What the program ends with.

use std::io::Write as _;
use std::process::ExitCode;

use inroads_harness::cluster::ClusterError;

/// How a command ended. The numbers are part of the interface; `--help` lists them.
#[derive(Debug)]
pub(crate) enum Exit {
    /// As expected.
    Success,
    /// Inroads itself failed, or could not do all that was asked for.
    Failed(anyhow::Error),
    /// The same, with everything said already.
    Unwell,
    /// The command line cannot be carried out.
    Usage(anyhow::Error),
    /// Something became worse than in the baseline, which has been said.
    Regression,
    /// A required probe came out in another way than is expected, which has been said.
    Surprise,
    /// Runs cannot be compared.
    NotComparable(anyhow::Error),
    /// A comparison says nothing, which has been said.
    Inconclusive,
    /// Interrupted, with a valid partial result.
    Interrupted,
    /// A command that was run for the user ended with this code.
    Passed(u8),
}

impl Exit {
    /// Wraps an error.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }

    /// Wraps what kept a cluster from being had.
    pub(crate) fn cluster(error: ClusterError) -> Self {
        match error {
            ClusterError::Interrupted => Self::Interrupted,
            other => Self::failed(other),
        }
    }

    /// Wraps an error in what the user typed.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// Prints what is to be said, once, as a chain, and gives the code.
    pub(crate) fn report(self) -> ExitCode {
        let code = match &self {
            Self::Success => 0,
            Self::Failed(error) => {
                print(error);
                1
            }
            Self::Unwell => 1,
            Self::Usage(error) => {
                print(error);
                2
            }
            Self::Regression => 3,
            Self::Surprise => 4,
            Self::NotComparable(error) => {
                print(error);
                5
            }
            Self::Inconclusive => 5,
            Self::Interrupted => 130,
            Self::Passed(code) => *code,
        };
        ExitCode::from(code)
    }
}

/// The error and its causes, one clause each; hints stay on lines of their own, at the end.
fn print(error: &anyhow::Error) {
    let mut clauses: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let (said, hint): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| !line.starts_with("(hint:"));
        clauses.push(said.join(" "));
        hints.extend(hint.into_iter().map(ToOwned::to_owned));
    }
    // A transparent error repeats its cause.
    clauses.dedup();
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {}", clauses.join(": "));
    for hint in hints {
        let _ = writeln!(stderr, "{hint}");
    }
}
