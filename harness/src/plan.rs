//! What a run will do, decided before it begins: methods, scenarios, profile, order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use serde::Deserialize;
use wildmatch::WildMatch;

use crate::agent::Repertoire;
use crate::ids::MethodId;
use crate::scenario::{LoadSpec, Shape};

/// The profiles, as they are documented.
pub const PROFILES: &str = include_str!("plan/profiles.toml");

/// What a run will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The methods, in report order.
    pub methods: Vec<MethodId>,
    /// The scenarios, in report order.
    pub scenarios: Vec<String>,
    /// The probes to ask.
    pub probes: BTreeSet<String>,
    /// Whether loads are run, or only probes asked.
    pub loads: bool,
    /// How long and how often.
    pub profile: Profile,
    /// Seeds every random choice.
    pub seed: u64,
    /// Whether each block has the methods in the opposite order: a second look, with another predecessor for each.
    pub reversed: bool,
    /// What is slowed down on purpose.
    pub handicap: Option<Handicap>,
    /// The namespace to work in.
    pub namespace: String,
    /// The command line, for the result file.
    pub command: String,
}

/// How long and how often things are measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Rounds over all methods, at the least.
    pub blocks: u32,
    /// Rounds at the most: more than `blocks` are measured until the intervals are narrow enough.
    pub most_blocks: u32,
    /// How narrow: half the width of the interval of each ratio that gates, as a share of it.
    pub half_width: f64,
    /// How long measuring may take; beyond `blocks` no block is begun that would not end in it.
    pub budget: Option<Duration>,
    /// Longest warm-up of a load.
    pub warm_up: Duration,
    /// Time that a closed loop is measured.
    pub window: Duration,
    /// Time that an open loop is measured.
    pub open_window: Duration,
    /// Time to find out what each method can carry.
    pub calibration: Duration,
    /// The common rate, as a share of the weakest method's capacity.
    pub rate_share: f64,
    /// The most that an open loop sends each second.
    pub most_requests_per_s: f64,
}

/// A method whose answers are held back on its laptop, to try whether a gate sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handicap {
    /// Which.
    pub method: MethodId,
    /// For how long each is held; with zero there is the relay that could hold them, and nothing else.
    pub delay: Duration,
}

/// The names on the command line lead to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no such method.
    #[error("there is no method `{name}`\n(hint: there are {known}, and `all`)")]
    NoMethod {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is no such peer.
    #[error("there is no peer `{name}`\n(hint: there are {known})")]
    NoPeer {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is no such scenario.
    #[error("there is no scenario `{name}`\n(hint: there are {known})")]
    NoScenario {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No probe of the chosen scenarios has such a name.
    #[error("no probe matches `{name}`\n(hint: there are {known}; `inroads list` names them all)")]
    NoProbe {
        /// What was asked for.
        name: String,
        /// The groups there are.
        known: String,
    },
    /// There is no such profile.
    #[error("there is no profile `{name}`\n(hint: there are {known})")]
    NoProfile {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Profile {
    /// The profile of this name.
    ///
    /// # Errors
    /// [`PlanError::NoProfile`].
    ///
    /// # Panics
    /// Where the built-in file cannot be read, which a test rules out.
    pub fn named(name: &str) -> Result<Self, PlanError> {
        let files: BTreeMap<String, ProfileFile> =
            toml::from_str(PROFILES).expect("the built-in profiles are well formed");
        let file = files.get(name).ok_or_else(|| PlanError::NoProfile {
            name: name.to_owned(),
            known: list(files.keys()),
        })?;
        Ok(Self {
            name: name.to_owned(),
            blocks: file.blocks,
            most_blocks: file.most_blocks,
            half_width: file.half_width,
            budget: None,
            warm_up: Duration::from_millis(file.warm_up_ms),
            window: Duration::from_millis(file.window_ms),
            open_window: Duration::from_millis(file.open_window_ms),
            calibration: Duration::from_millis(file.calibration_ms),
            rate_share: file.rate_share,
            most_requests_per_s: file.most_requests_per_s,
        })
    }

    /// How long a load of this shape takes, about: its warm-up and its window.
    #[must_use]
    pub fn expected(&self, load: &LoadSpec) -> Duration {
        self.warm_up + self.window_of(load)
    }

    /// How long a load of this shape is measured.
    #[must_use]
    pub fn window_of(&self, load: &LoadSpec) -> Duration {
        match load.shape {
            Shape::Open => self.open_window,
            Shape::Closed => self.window,
        }
    }
}

impl Plan {
    /// Checks the names that a user gave: `all` stands for every method without a variant, no scenario for
    /// every scenario, and a peer for the methods that are its work, beside the others.
    ///
    /// # Errors
    /// [`PlanError::NoMethod`], [`PlanError::NoPeer`] and [`PlanError::NoScenario`], with what there is.
    pub fn select(
        repertoire: &Repertoire,
        methods: &[String],
        peers: &[String],
        scenarios: &[String],
    ) -> Result<(Vec<MethodId>, Vec<String>), PlanError> {
        let known: Vec<MethodId> = repertoire
            .methods
            .iter()
            .map(|method| method.id())
            .collect();
        for name in methods.iter().filter(|name| *name != "all") {
            if !known.iter().any(|id| id.as_str() == name) {
                return Err(PlanError::NoMethod {
                    name: name.clone(),
                    known: list(&known),
                });
            }
        }
        let known_peers: BTreeMap<&str, Vec<MethodId>> = repertoire
            .methods
            .iter()
            .filter_map(|method| Some((method.peer()?, method.id())))
            .fold(BTreeMap::new(), |mut known, (peer, id)| {
                known.entry(peer).or_insert_with(Vec::new).push(id);
                known
            });
        for name in peers {
            if !known_peers.contains_key(name.as_str()) {
                return Err(PlanError::NoPeer {
                    name: name.clone(),
                    known: list(known_peers.keys()),
                });
            }
        }
        let of_peers: Vec<&MethodId> = peers
            .iter()
            .filter_map(|name| known_peers.get(name.as_str()))
            .flatten()
            .collect();
        let every = methods.is_empty() || methods.iter().any(|name| name == "all");
        let chosen = |id: &MethodId| {
            (every && id.base() == id.as_str())
                || methods.iter().any(|name| name == id.as_str())
                || of_peers.contains(&id)
        };
        let known_scenarios: Vec<&str> = repertoire.scenarios.iter().map(|s| s.id()).collect();
        for name in scenarios {
            if !known_scenarios.contains(&name.as_str()) {
                return Err(PlanError::NoScenario {
                    name: name.clone(),
                    known: list(&known_scenarios),
                });
            }
        }
        let wanted = |id: &&str| scenarios.is_empty() || scenarios.iter().any(|name| name == id);
        Ok((
            known.into_iter().filter(chosen).collect(),
            known_scenarios
                .into_iter()
                .filter(wanted)
                .map(ToOwned::to_owned)
                .collect(),
        ))
    }

    /// The probes of the chosen scenarios that match one of `globs`, in which `*` stands for any text and `?` for any
    /// character; all of them where there is none.
    ///
    /// # Errors
    /// [`PlanError::NoProbe`] where one matches nothing.
    pub fn select_probes(
        repertoire: &Repertoire,
        scenarios: &[String],
        globs: &[String],
    ) -> Result<BTreeSet<String>, PlanError> {
        let chosen = scenarios.iter().filter_map(|id| repertoire.scenario(id));
        let known: BTreeSet<&str> = chosen
            .flat_map(|scenario| scenario.probes())
            .map(|probe| probe.id)
            .collect();
        let mut found = BTreeSet::new();
        for glob in globs {
            let pattern = WildMatch::new(glob);
            let matching: Vec<&&str> = known.iter().filter(|id| pattern.matches(id)).collect();
            if matching.is_empty() {
                let groups: BTreeSet<String> = known
                    .iter()
                    .filter_map(|id| Some(format!("{}/*", id.split_once('/')?.0)))
                    .collect();
                return Err(PlanError::NoProbe {
                    name: glob.clone(),
                    known: list(groups),
                });
            }
            found.extend(matching.into_iter().map(ToString::to_string));
        }
        if globs.is_empty() {
            found.extend(known.into_iter().map(ToOwned::to_owned));
        }
        Ok(found)
    }

    /// The methods in the order of block `block`: random, the same for the same seed.
    #[must_use]
    pub fn order(&self, block: u32) -> Vec<MethodId> {
        let mut methods = self.methods.clone();
        let mut random = SmallRng::seed_from_u64(
            self.seed ^ u64::from(block).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        methods.shuffle(&mut random);
        if self.reversed {
            methods.reverse();
        }
        methods
    }
}

/// A profile as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    blocks: u32,
    most_blocks: u32,
    half_width: f64,
    warm_up_ms: u64,
    window_ms: u64,
    open_window_ms: u64,
    calibration_ms: u64,
    rate_share: f64,
    most_requests_per_s: f64,
}

fn list<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            methods: ["a", "b", "c", "d", "e"]
                .map(|id| id.parse().unwrap())
                .to_vec(),
            scenarios: vec![],
            probes: BTreeSet::new(),
            loads: true,
            profile: Profile::named("quick").unwrap(),
            seed,
            reversed: false,
            handicap: None,
            namespace: String::new(),
            command: String::new(),
        }
    }

    #[test]
    fn every_profile_can_be_read_and_grows() {
        let [smoke, quick, standard, thorough] =
            ["smoke", "quick", "standard", "thorough"].map(|name| Profile::named(name).unwrap());
        for profile in [&smoke, &quick, &standard, &thorough] {
            assert!(profile.blocks <= profile.most_blocks && profile.half_width > 0.0);
        }
        assert!(smoke.blocks < quick.blocks && smoke.window < quick.window);
        assert!(quick.blocks < standard.blocks && standard.most_blocks < thorough.most_blocks);
        assert!(quick.window < standard.window && standard.window < thorough.window);
        let error = Profile::named("fast").unwrap_err().to_string();
        assert!(
            error.contains("`quick`, `smoke`, `standard`, `thorough`"),
            "{error}"
        );
    }

    #[test]
    fn the_order_is_random_and_the_same_for_the_same_seed() {
        let orders: Vec<_> = (0..20).map(|block| plan(7).order(block)).collect();
        assert!(orders.iter().any(|order| *order != orders[0]));
        assert!(
            orders
                .iter()
                .enumerate()
                .all(|(block, order)| *order == plan(7).order(u32::try_from(block).unwrap()))
        );
        let mut reversed = plan(7);
        reversed.reversed = true;
        let mut last_first = orders[3].clone();
        last_first.reverse();
        assert_eq!(reversed.order(3), last_first);
        let mut sorted = orders[3].clone();
        sorted.sort();
        assert_eq!(sorted, plan(7).methods, "every method once");
    }
}
