//! Which method for a team: rules over a team's rights and needs, and over what one run saw and measured.
//!
//! Pure functions: a team and a result file in, an answer out. Nothing is measured here, and no method is preferred by
//! its name but where the figures of two cannot be told apart: then the article's order decides, and is said to.

mod advice;
mod needs;
mod questions;
mod ranking;
mod rights;
mod rules;
mod seen;
mod team;
mod template;
mod terminal;
mod weighing;

pub use advice::{Advice, Ahead, Basis, Condition, Evidence, Fit, Ranked, Reason, Side};
pub use needs::probes;
pub use questions::{Answer, Interview, Question};
pub use rights::is_known;
pub use team::{Team, TeamError};
pub use template::{Choice, Form, template};
pub use terminal::terminal;

use inroads_harness::comparison::Named;
use inroads_harness::run::{MethodInfo, Provenance, Run, Status};

use ranking::{Candidate, ORDER, rank};
use team::Where;

/// What an answer can rest on.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// What a run saw and measured.
    Run(&'a Run),
    /// What methods declare to need and to carry, where nothing was measured.
    Declared(&'a [MethodInfo]),
}

/// Ranks the four ways in for `team`, as far as `source` has them.
#[must_use]
pub fn choose(team: &Team, source: Source<'_>) -> Advice {
    let (run, declared) = match source {
        Source::Run(run) => (Some(run), run.methods.as_slice()),
        Source::Declared(methods) => (None, methods),
    };
    let in_order = ORDER
        .iter()
        .filter_map(|id| declared.iter().find(|it| it.id.as_str() == *id));
    let methods: Vec<&MethodInfo> = in_order.collect();
    let candidates = methods.iter().map(|method| {
        let mut judged = rules::judge(method, team, run);
        if let Some(run) = run {
            judged
                .reasons
                .extend(weighing::reasons(run, team, &method.id, &methods));
        }
        Candidate { method, judged }
    });
    Advice {
        team: team.name.clone(),
        run: run.map(basis),
        matters: team.matters,
        ranking: rank(candidates.collect(), team, run),
        notes: notes(team, run, &methods),
    }
}

fn basis(run: &Run) -> Basis {
    Basis {
        named: Named {
            id: run.run.id.clone(),
            started_at: run.run.started_at,
            profile: run.run.profile.clone(),
        },
        status: run.run.status,
        cluster: run.environment.cluster.clone(),
        cpu: run.environment.cpu.clone(),
        cores: run.environment.cores,
    }
}

/// What holds for the whole answer.
fn notes(team: &Team, run: Option<&Run>, methods: &[&MethodInfo]) -> Vec<String> {
    let mut notes = vec![format!(
        "The order: by fit, by the weight of conditions, by {}, and where that does not tell, the article's: {}.",
        terminal::matters(team.matters),
        ORDER.join(", ")
    )];
    let missing = ORDER
        .iter()
        .filter(|id| !methods.iter().any(|it| it.id.as_str() == **id));
    let missing: Vec<&str> = missing.copied().collect();
    if !missing.is_empty() {
        notes.push(format!(
            "Not in this run, and not ranked: {}. `inroads bench all` has them all.",
            missing.join(", ")
        ));
    }
    let Some(run) = run else {
        return notes;
    };
    if run.run.status != Status::Complete {
        notes.push(
            "The run is not complete: not everything that was asked for was done.".to_owned(),
        );
    }
    let laptops = run.environment.laptops.as_ref().map_or(1, |it| it.count);
    let people = usize::try_from(team.people.get()).unwrap_or(usize::MAX);
    if people > laptops {
        notes.push(format!(
            "Not measured: {people} people at once. Each method had {laptops} laptop{} here; \
             `inroads bench --laptops N` has more.",
            if laptops == 1 { "" } else { "s" }
        ));
    }
    if team.cluster.place != Where::SameLan && run.environment.cluster.kind != "context" {
        notes.push(
            "Not measured: the way between your laptops and nodes. Here they were on one network."
                .to_owned(),
        );
    }
    let stand_ins = run.environment.components.iter();
    let stand_ins = stand_ins.filter(|it| it.provenance == Provenance::StandIn);
    let stand_ins: Vec<&str> = stand_ins.map(|it| it.name.as_str()).collect();
    if !stand_ins.is_empty() {
        notes.push(format!("Stand-ins in this run: {}.", stand_ins.join(", ")));
    }
    notes
}
