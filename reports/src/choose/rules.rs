//! The rules: a method, held against what a team has and needs.
//!
//! No verdict stands here for any method by name. What a method can is what its probes came to in the run, and where a
//! probe was not asked, what the method declares; a probe that was not asked is never a pass.

use inroads_harness::access::Effort;
use inroads_harness::method::Capability;
use inroads_harness::run::{MethodInfo, Run};

use super::advice::{Condition, Evidence, Fit, Reason, Side};
use super::needs::{self, At, GATEWAY_RESTART, Need, OVERLAP, SILENCE};
use super::rights::{self, Burden, Right, Standing};
use super::seen::{Seen, Together};
use super::team::{Os, Takes, Team, Workload};

/// What is found of a method.
pub(super) struct Judged {
    pub(super) conditions: Vec<Condition>,
    pub(super) reasons: Vec<Reason>,
}

impl Judged {
    /// How many reasons rule it out.
    pub(super) fn blocks(&self) -> usize {
        let reasons = self.reasons.iter();
        reasons.filter(|it| it.side == Side::RulesOut).count()
    }

    pub(super) fn fit(&self) -> Fit {
        match (self.blocks(), self.conditions.is_empty()) {
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
        seen: Seen {
            run,
            method: &method.id,
        },
        rights: rights.collect(),
        judged: Judged {
            conditions: Vec::new(),
            reasons: Vec::new(),
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
    seen: Seen<'a>,
    rights: Vec<Right>,
    judged: Judged,
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
            self.only_if(format!("this is met: {need}"), &[Burden::Unknown]);
            self.say(Side::Open, "a need that no rule knows", declared());
        }
        for right in named {
            let (side, about) = match rights::standing(right, self.team) {
                Standing::Has(why) => (Side::For, why),
                Standing::If(what, burden) => {
                    self.only_if(what.to_owned(), &[burden]);
                    (Side::Against, what)
                }
                Standing::Lacks(why) => (Side::RulesOut, why),
                Standing::ByClient => continue,
            };
            let mut evidence = declared();
            if right == Right::NoOverlap && side != Side::For {
                evidence.push(self.seen.probe(OVERLAP));
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
        let mut evidence = self.seen.probes(ids);
        let together = self.seen.together(ids);
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
            let what = format!("{client} needs no more than addresses");
            self.only_if(what, &[Burden::Measuring]);
            evidence.push(Evidence::NotMeasured {
                why: "no scenario stands for it, so addresses are all that is asked for".to_owned(),
            });
        }
        self.say(side, &workload.name, evidence);
    }

    /// Whether a need that is no workload's is met.
    fn need(&mut self, need: &Need) {
        let mut evidence = self.seen.probes(need.probes);
        let side = match (self.seen.together(need.probes), need.at) {
            (Together::Bad, _) => return self.ruled_out(need.what, evidence),
            (Together::Pass(effort), At::Unmodified) if effort > Effort::Unmodified => {
                let text = "with nothing set".to_owned();
                evidence.push(Evidence::Said { text });
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
                    evidence.push(Evidence::Declared { text });
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
            let seconds = self.seen.silent_seconds(id);
            let evidence = match (self.seen.probe(id), seconds) {
                (Evidence::Probe { id, outcome, .. }, Some(seconds)) => Evidence::Probe {
                    id,
                    outcome,
                    detail: Some(format!("{seconds:.1} s without an answer")),
                },
                (evidence, _) => evidence,
            };
            let own_part = self.rights.contains(&Right::NodePort);
            let side = match (self.seen.together(&[id]), seconds) {
                (Together::Bad, _) => Side::RulesOut,
                (Together::Pass(_), Some(seconds)) if seconds > f64::from(tolerated) => {
                    Side::RulesOut
                }
                (Together::Pass(_), Some(_)) => Side::For,
                // What is not reached at a node port has no pods of its own that could restart.
                (Together::Unmeasured, _) if *id == GATEWAY_RESTART && !own_part => Side::Open,
                (Together::Pass(_) | Together::Unmeasured, _) => self.unmeasured(&[id]),
            };
            match side {
                Side::RulesOut => self.ruled_out(&about, vec![evidence]),
                side => self.say(side, &about, vec![evidence]),
            }
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
        let is_missing = |id: &&&str| self.seen.together(&[id]) == Together::Unmeasured;
        let missing: Vec<&str> = ids.iter().filter(is_missing).copied().collect();
        // What was asked and does not say what it should is as good as not asked.
        let missing = if missing.is_empty() { ids } else { &missing };
        let verb = if missing.len() == 1 { "comes" } else { "come" };
        let text = format!(
            "{} {verb} out well: not measured so far",
            missing.join(", ")
        );
        self.only_if(text, &[Burden::Measuring]);
        Side::Open
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
