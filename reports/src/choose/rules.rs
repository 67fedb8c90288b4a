//! The rules: a method, held against what a team has and needs.
//!
//! No verdict stands here for any method by name. What a method can is what its probes came to in the run, and where a
//! probe was not asked, what the method declares; a probe that was not asked is never a pass.

use inroads_harness::access::Effort;
use inroads_harness::expected::Outcome;
use inroads_harness::method::Capability;
use inroads_harness::run::{MethodInfo, ProbeResult, Run, Verdict};

use super::advice::{Condition, Evidence, Fit, Reason, Side};
use super::needs::{self, At, GATEWAY_RESTART, Need, OVERLAP, SILENCE};
use super::rights::{self, Burden, Right, Standing};
use super::team::{Os, Takes, Team, Workload};
use crate::matrix::find;

/// What is found of a method.
pub(super) struct Judged {
    pub(super) conditions: Vec<Condition>,
    pub(super) reasons: Vec<Reason>,
    /// How many rules rule it out.
    pub(super) blocks: u32,
}

impl Judged {
    pub(super) fn fit(&self) -> Fit {
        match (self.blocks, self.conditions.is_empty()) {
            (0, true) => Fit::Fits,
            (0, false) => Fit::FitsIf,
            _ => Fit::RuledOut,
        }
    }

    pub(super) fn weight(&self) -> u32 {
        self.conditions.iter().map(|it| it.weight).sum()
    }
}

/// Judges `method` for `team` by `run`; by what it declares alone where there is none.
pub(super) fn judge(method: &MethodInfo, team: &Team, run: Option<&Run>) -> Judged {
    let rights = method.needs.iter().flat_map(|need| rights::named(need));
    let mut judge = Judge {
        method,
        team,
        run,
        rights: rights.collect(),
        judged: Judged {
            conditions: Vec::new(),
            reasons: Vec::new(),
            blocks: 0,
        },
    };
    for workload in &team.workloads {
        judge.workload(workload);
    }
    for need in needs::NEEDS.iter().filter(|need| (need.of)(team)) {
        judge.need(need);
    }
    judge.silence();
    for need in &method.needs {
        judge.right(need);
    }
    judge.systems();
    judge.judged
}

struct Judge<'a> {
    method: &'a MethodInfo,
    team: &'a Team,
    run: Option<&'a Run>,
    rights: Vec<Right>,
    judged: Judged,
}

/// What several probes come to together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Together {
    /// All pass, with this effort at most.
    Pass(Effort),
    /// One at least was not asked, and the others pass.
    Unmeasured,
    /// One at least is wrong, or cannot be.
    Bad,
}

impl Judge<'_> {
    /// Whether a right that is needed is there.
    fn right(&mut self, need: &str) {
        let declared = || {
            vec![Evidence::Declared {
                text: need.to_owned(),
            }]
        };
        let named = rights::named(need);
        if named.is_empty() {
            let evidence = declared();
            self.say(Side::Open, "a need that no rule knows", evidence);
        }
        for right in named {
            let (side, about) = match rights::standing(right, self.team) {
                Standing::Has(why) => (Side::For, why),
                Standing::If(what, burden) => {
                    self.only_if(what.to_owned(), &[burden]);
                    (Side::Against, what)
                }
                Standing::Lacks(why) => {
                    self.judged.blocks += 1;
                    (Side::RulesOut, why)
                }
                Standing::ByClient => continue,
            };
            let mut evidence = declared();
            if right == Right::NoOverlap && side != Side::For {
                evidence.push(self.probe(OVERLAP));
            }
            // Two needs can name one right.
            let said = |it: &&mut Reason| it.side == side && it.about == about;
            match self.judged.reasons.iter_mut().find(said) {
                Some(reason) => reason.evidence.extend(evidence),
                None => self.say(side, about, evidence),
            }
        }
    }

    /// Whether a workload can be reached at an effort that its driver takes.
    fn workload(&mut self, workload: &Workload) {
        let known = needs::reached(&workload.name);
        let ids = known.map_or(needs::OTHER_WORKLOAD, |it| it.probes);
        let mut evidence = self.probes(ids);
        let together = self.together(ids);
        let effort = match together {
            Together::Pass(effort) => effort,
            Together::Unmeasured => self.declared_effort(&mut evidence),
            Together::Bad => return self.ruled_out(&workload.name, evidence),
        };
        let client = format!("the {} client", workload.name);
        let takes = workload.takes();
        let side = match (effort, takes) {
            (Effort::Unmodified, _) => Side::For,
            (Effort::Configured, None) => {
                let what = format!("{client} takes a proxy, and is set to it");
                self.only_if(what, &[Burden::Setting, Burden::Unknown])
            }
            (Effort::Configured, Some(takes)) if takes.contains(&Takes::Proxy) => {
                self.only_if(format!("{client} is set to the proxy"), &[Burden::Setting])
            }
            (Effort::Rewritten, None) => {
                let what = format!("{client} takes other addresses, and is given them");
                self.only_if(what, &[Burden::Addresses, Burden::Unknown])
            }
            (Effort::Rewritten, Some(takes)) if takes.contains(&Takes::AddressMap) => {
                let what = format!("{client} is given other addresses");
                self.only_if(what, &[Burden::Addresses])
            }
            // The client that was run had to be given addresses; another one may do with the proxy.
            (Effort::Rewritten, Some([Takes::Proxy])) if self.rights.contains(&Right::Proxy) => {
                let what = format!(
                    "{client}, set to the proxy, follows where it is sent: the one that was run takes no proxy"
                );
                self.only_if(what, &[Burden::Setting, Burden::Measuring])
            }
            (Effort::Configured | Effort::Rewritten, Some(_)) => {
                evidence.push(Evidence::Said {
                    text: format!("the driver takes no {}", setting(effort)),
                });
                return self.ruled_out(&workload.name, evidence);
            }
        };
        let side = if together == Together::Unmeasured {
            self.unmeasured(ids)
        } else {
            side
        };
        if known.is_none() {
            evidence.push(Evidence::NotMeasured {
                why: "no scenario stands for it, only its addresses were asked".to_owned(),
            });
        }
        self.say(side, &workload.name, evidence);
    }

    /// Whether a need that is no workload's is met.
    fn need(&mut self, need: &Need) {
        let evidence = self.probes(need.probes);
        let side = match (self.together(need.probes), need.at) {
            (Together::Bad, _) => return self.ruled_out(need.what, evidence),
            (Together::Pass(effort), At::Unmodified) if effort > Effort::Unmodified => {
                return self.ruled_out(need.what, evidence);
            }
            (Together::Pass(effort), At::SettingUp(who)) if effort > Effort::Unmodified => {
                let (what, burden) = match effort {
                    Effort::Configured => ("are set to the proxy", Burden::Setting),
                    _ => ("are given other addresses", Burden::Addresses),
                };
                self.only_if(format!("{who} {what}"), &[burden])
            }
            (Together::Pass(_), _) => Side::For,
            (Together::Unmeasured, _) => match need.carries {
                Some(capability) if !self.carries(capability) => {
                    let carried = self.method.exposes.join(", ");
                    let text = format!("carries {carried}, not {capability}");
                    let evidence = [evidence, vec![Evidence::Declared { text }]].concat();
                    return self.ruled_out(need.what, evidence);
                }
                _ => self.unmeasured(need.probes),
            },
        };
        self.say(side, need.what, evidence);
    }

    /// Whether it comes back soon enough after a restart.
    fn silence(&mut self) {
        let Some(tolerated) = self.team.needs.tolerated_silence_s else {
            return;
        };
        for (id, after) in SILENCE {
            let about = format!("at most {tolerated} s without an answer after {after}");
            let result = self.result(id);
            let outcome = result.map(ProbeResult::outcome);
            let seconds = result.and_then(silent_seconds);
            let detail = seconds.map(|it| format!("{it:.1} s without an answer"));
            let detail = detail.or(result.and_then(|it| it.reason.clone()));
            let evidence = vec![Evidence::Probe {
                id: (*id).to_owned(),
                outcome,
                detail,
            }];
            let own_part = self.rights.contains(&Right::NodePort);
            let side = match (outcome, seconds) {
                (Some(Outcome::Fail | Outcome::Unsupported), _) => {
                    return self.ruled_out(&about, evidence);
                }
                (Some(Outcome::NotRun) | None, _) if *id == GATEWAY_RESTART && !own_part => {
                    // It has nothing of its own that could restart.
                    Side::Open
                }
                (Some(Outcome::NotRun) | None, _) | (_, None) => self.unmeasured(&[id]),
                (Some(_), Some(seconds)) if seconds > f64::from(tolerated) => {
                    self.ruled_out(&about, evidence);
                    continue;
                }
                (Some(_), Some(_)) => Side::For,
            };
            self.say(side, &about, evidence);
        }
    }

    /// Laptops' systems that no run has.
    fn systems(&mut self) {
        let others = self.team.laptops.os.iter().filter(|os| **os != Os::Linux);
        let others: Vec<&str> = others.map(|os| os.title()).collect();
        for os in &others {
            let why = "the laptops of runs are Linux".to_owned();
            let mut evidence = vec![Evidence::NotMeasured { why }];
            let of_laptop = self
                .method
                .needs
                .iter()
                .find(|need| rights::named(need).contains(&Right::Root));
            if let Some(need) = of_laptop {
                evidence.push(Evidence::Declared { text: need.clone() });
                let what = format!("other software does on {os} what Inroads does on Linux");
                self.only_if(what, &[Burden::Once]);
            }
            self.say(Side::Open, os, evidence);
        }
    }

    fn say(&mut self, side: Side, about: &str, evidence: Vec<Evidence>) {
        let about = about.to_owned();
        self.judged.reasons.push(Reason {
            side,
            about,
            evidence,
        });
    }

    fn ruled_out(&mut self, about: &str, evidence: Vec<Evidence>) {
        self.judged.blocks += 1;
        self.say(Side::RulesOut, about, evidence);
    }

    /// Adds a condition, once; a reason with one is against the method.
    fn only_if(&mut self, text: String, burdens: &[Burden]) -> Side {
        let weight = burdens.iter().map(|it| it.weight(self.team)).sum();
        let condition = Condition { text, weight };
        if !self.judged.conditions.contains(&condition) {
            self.judged.conditions.push(condition);
        }
        Side::Against
    }

    /// Of probes that were not asked: they have to be.
    fn unmeasured(&mut self, ids: &[&str]) -> Side {
        let asked = |id: &&&str| !matches!(self.outcome(id), None | Some(Outcome::NotRun));
        let missing: Vec<&str> = ids.iter().filter(|id| !asked(id)).copied().collect();
        // What was asked and does not say what it should is as good as not asked.
        let missing = if missing.is_empty() { ids } else { &missing };
        let verb = if missing.len() == 1 { "passes" } else { "pass" };
        let text = format!("{} {verb}, not measured so far", missing.join(", "));
        self.only_if(text, &[Burden::Measuring]);
        Side::Open
    }

    fn result(&self, id: &str) -> Option<&ProbeResult> {
        self.run.and_then(|run| find(run, id, &self.method.id))
    }

    fn outcome(&self, id: &str) -> Option<Outcome> {
        self.result(id).map(ProbeResult::outcome)
    }

    fn together(&self, ids: &[&str]) -> Together {
        let each = ids.iter().map(|id| match self.outcome(id) {
            Some(Outcome::Unmodified) => Together::Pass(Effort::Unmodified),
            Some(Outcome::Configured) => Together::Pass(Effort::Configured),
            Some(Outcome::Rewritten) => Together::Pass(Effort::Rewritten),
            Some(Outcome::Fail | Outcome::Unsupported) => Together::Bad,
            Some(Outcome::NotRun) | None => Together::Unmeasured,
        });
        each.max().unwrap_or(Together::Unmeasured)
    }

    fn probes(&self, ids: &[&str]) -> Vec<Evidence> {
        ids.iter().map(|id| self.probe(id)).collect()
    }

    fn probe(&self, id: &str) -> Evidence {
        let result = self.result(id);
        Evidence::Probe {
            id: id.to_owned(),
            outcome: result.map(ProbeResult::outcome),
            detail: result.and_then(|it| match it.verdict {
                Verdict::Fail => Some(last_attempt(&it.seen).to_owned()),
                _ if id == OVERLAP => Some(it.seen.clone()),
                _ => it.reason.clone(),
            }),
        }
    }

    fn carries(&self, capability: Capability) -> bool {
        let capability = capability.to_string();
        self.method.exposes.contains(&capability)
    }

    /// What clients must change by what the method declares, which is all there is where no probe was asked.
    fn declared_effort(&self, evidence: &mut Vec<Evidence>) -> Effort {
        let clients = [
            (Right::Address, Effort::Rewritten),
            (Right::Proxy, Effort::Configured),
        ];
        for need in &self.method.needs {
            for (right, effort) in clients {
                if rights::named(need).contains(&right) {
                    evidence.push(Evidence::Declared { text: need.clone() });
                    return effort;
                }
            }
        }
        Effort::Unmodified
    }
}

fn setting(effort: Effort) -> &'static str {
    match effort {
        Effort::Unmodified => "change",
        Effort::Configured => "proxy",
        Effort::Rewritten => "other addresses",
    }
}

/// What a probe has seen in its last attempt, the one with the most effort.
fn last_attempt(seen: &str) -> &str {
    let efforts = [Effort::Rewritten, Effort::Configured, Effort::Unmodified];
    let mut last = efforts
        .iter()
        .filter_map(|effort| seen.rsplit_once(&format!("{effort}: ")));
    last.next().map_or(seen, |(_, last)| last)
}

/// The seconds without an answer that a probe of restarts has seen, of the attempt that it passed with: the last one.
/// They stand in its evidence only, as the probe writes it.
fn silent_seconds(probe: &ProbeResult) -> Option<f64> {
    let (before, _) = probe.seen.rsplit_once(" s without an answer")?;
    let seconds: f64 = before.rsplit(' ').next()?.parse().ok()?;
    seconds.is_finite().then_some(seconds)
}
