//! A team as its `team.toml` describes it: what it has, what it may do, what it needs. Nothing is judged here.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};

use crate::escape;

/// A team. Every field may be left out, and then has the value of [`Team::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Team {
    /// What it is called; empty where that does not matter.
    pub name: String,
    /// How many people connect.
    pub people: NonZeroU32,
    /// What decides between methods that take equally few changes.
    pub matters: Matters,
    /// Where its clients run.
    pub laptops: Laptops,
    /// Who may do what.
    pub rights: Rights,
    /// Where the cluster is.
    pub cluster: Place,
    /// What must work.
    pub needs: Needs,
    /// What is reached; one HTTP service where nothing is said.
    #[serde(rename = "workload")]
    pub workloads: Vec<Workload>,
}

impl Default for Team {
    fn default() -> Self {
        Self {
            name: String::new(),
            people: NonZeroU32::MIN,
            matters: Matters::Effort,
            laptops: Laptops::default(),
            rights: Rights::default(),
            cluster: Place::default(),
            needs: Needs::default(),
            workloads: vec![Workload {
                name: HTTP.to_owned(),
                driver: None,
            }],
        }
    }
}

/// The scenario whose clients take both a proxy and another address, whatever they are.
const HTTP: &str = "http";

/// What decides between methods that take equally few changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matters {
    /// How little a user has to change: the share of probes that pass unmodified.
    Effort,
    /// The time until an answer.
    Latency,
    /// Answers each second.
    Throughput,
    /// The processor's time for each request, on the laptop and in the cluster.
    Cost,
}

/// Where clients run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Laptops {
    /// Their systems, at least one.
    #[serde(deserialize_with = "at_least_one")]
    pub os: Vec<Os>,
    /// Who of the team is root on them.
    pub root: Root,
}

impl Default for Laptops {
    fn default() -> Self {
        Self {
            os: vec![Os::Linux],
            root: Root::No,
        }
    }
}

/// A laptop's system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Os {
    /// Linux, which the laptops of runs have.
    Linux,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
}

impl Os {
    /// Its name as its maker writes it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Macos => "macOS",
            Self::Windows => "Windows",
        }
    }
}

/// Who of the team is root on the laptop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// Everybody.
    Yes,
    /// Some.
    Some,
    /// Nobody.
    No,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rights {
    /// Who configures the gateways and routers between laptops and nodes.
    pub gateways: Who,
    /// Who runs privileged pods.
    pub privileged_pods: Who,
    /// Who opens node ports, and lets them be reached from the laptops.
    pub node_ports: Who,
    /// Who grants the right to forward ports.
    pub port_forward: Who,
    /// Whether laptops reach the API server.
    pub api_server: bool,
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            gateways: Who::Nobody,
            privileged_pods: Who::Nobody,
            node_ports: Who::Nobody,
            port_forward: Who::Team,
            api_server: true,
        }
    }
}

/// Who may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The team itself.
    Team,
    /// Somebody who has to be asked.
    AnotherDepartment,
    /// Nobody who can be asked.
    Nobody,
}

/// Where the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Place {
    /// Seen from the laptops.
    pub place: Where,
    /// Whether its pod or Service networks overlap a network on the laptops' side.
    pub overlap: Overlap,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            place: Where::SameLan,
            overlap: Overlap::No,
        }
    }
}

/// Where the nodes are, seen from the laptops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// On the same LAN.
    SameLan,
    /// Behind routers of the same company.
    OtherSite,
    /// In a cloud.
    Cloud,
}

/// Whether networks overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// They do not.
    No,
    /// Nobody knows; of home networks that is so.
    Unknown,
    /// They do.
    Yes,
}

/// What must work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// UDP datagrams.
    pub udp: bool,
    /// ICMP echo to pods.
    pub icmp: bool,
    /// For whom the cluster's names must work.
    pub cluster_names: Names,
    /// Pods see the client's own address.
    pub source_ip: bool,
    /// Nobody on the LAN can read what goes through.
    pub confidential: bool,
    /// Nobody on the LAN gets in without a credential.
    pub authenticated: bool,
    /// The laptop's other traffic and names stay as they are.
    pub other_traffic_untouched: bool,
    /// Seconds without an answer that are tolerated after a restart; any number where nothing is said.
    pub tolerated_silence_s: Option<u32>,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            udp: false,
            icmp: false,
            cluster_names: Names::No,
            source_ip: false,
            confidential: false,
            authenticated: false,
            other_traffic_untouched: true,
            tolerated_silence_s: None,
        }
    }
}

/// For whom the cluster's names must work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// For nobody.
    No,
    /// For clients that can be given a setting.
    Clients,
    /// For every program, by the system's resolver.
    EveryProgram,
}

/// Something in the cluster that is reached, and how its clients can be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The scenario that stands for it, or any other name, which no scenario stands for.
    #[serde(deserialize_with = "not_blank")]
    pub name: String,
    /// What its driver takes; not known where nothing is said.
    #[serde(default)]
    pub driver: Option<Vec<Takes>>,
}

impl Workload {
    /// What its driver takes; `None` where that is not known.
    pub(super) fn takes(&self) -> Option<&[Takes]> {
        match &self.driver {
            Some(takes) => Some(takes),
            None if self.name == HTTP => Some(&[Takes::Proxy, Takes::AddressMap]),
            None => None,
        }
    }
}

/// How a driver can be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// With a SOCKS5 proxy that resolves names.
    Proxy,
    /// With another address for each that it is told of.
    AddressMap,
}

/// A `team.toml` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{file}`{place}: {what}\n(hint: `inroads choose --template` prints every field with its values)"
)]
pub struct TeamError {
    /// The file.
    file: String,
    /// The line and the field, as far as they are known.
    place: String,
    /// What is wrong, with the values that are allowed.
    what: String,
}

impl Team {
    /// Reads the text of the file that `file` names.
    ///
    /// # Errors
    /// With the line, the field and the values that it takes.
    pub fn read(text: &str, file: &str) -> Result<Self, TeamError> {
        let refuse = |error: &toml::de::Error, field: Option<String>| {
            let line = error.span().and_then(|span| text.get(..span.start));
            let line = line.map(|before| format!(" line {}", before.matches('\n').count() + 1));
            let field = field.map(|field| format!(", `{}`", escape::terminal(&field)));
            TeamError {
                file: escape::terminal(file),
                place: line.unwrap_or_default() + &field.unwrap_or_default(),
                what: escape::terminal(error.message()),
            }
        };
        let document = toml::Deserializer::parse(text).map_err(|error| refuse(&error, None))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let field = error.path().to_string();
            refuse(error.inner(), Some(field))
        })
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Os>, D::Error> {
    let all = Vec::<Os>::deserialize(source)?;
    if all.is_empty() {
        let said = "expected at least one of `linux`, `macos`, `windows`";
        return Err(serde::de::Error::custom(said));
    }
    Ok(all)
}

fn not_blank<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    let name = String::deserialize(source)?;
    if name.trim().is_empty() {
        let said = "expected `http`, `redis-cluster`, `mongo-replica-set`, `dns` or any other name";
        return Err(serde::de::Error::custom(said));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_team_of_the_defaults() {
        assert_eq!(Team::read("", "team.toml"), Ok(Team::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_its_field_and_the_values() {
        let cases: &[(&str, &[&str])] = &[
            (
                "[laptops]\nroot = \"maybe\"\n",
                &["line 2", "`laptops.root`", "`maybe`", "`some`"],
            ),
            (
                "[laptops]\nos = [\"linux\", \"beos\"]\n",
                &["line 2", "`laptops.os[1]`", "`macos`"],
            ),
            (
                "[laptops]\nos = []\n",
                &["line 2", "`laptops.os`", "at least one"],
            ),
            ("people = 0\n", &["line 1", "`people`", "nonzero"]),
            (
                "[rights]\n\nrouters = \"team\"\n",
                &["line 3", "routers", "`gateways`"],
            ),
            (
                "[[workload]]\nname = \"http\"\ndriver = \"proxy\"\n",
                &["line 3", "`workload[0].driver`"],
            ),
            ("[[workload]]\ndriver = []\n", &["`workload[0]", "name"]),
            (
                "[[workload]]\nname = \" \"\n",
                &["line 2", "`workload[0].name`", "`redis-cluster`"],
            ),
            (
                "[needs]\nudp = \"yes\"\n",
                &["line 2", "`needs.udp`", "boolean"],
            ),
            (
                "[needs]\ntolerated_silence_s = -1\n",
                &["line 2", "`needs.tolerated_silence_s`"],
            ),
            ("people = \n", &["line 1"]),
            ("[needs]\n\"\\u001b[31m\" = 1\n", &["line 2", "\\u{1b}[31m"]),
        ];
        for (text, parts) in cases {
            let error = Team::read(text, "team.toml").unwrap_err().to_string();
            for part in [&"`team.toml`", &"\n(hint:"].into_iter().chain(*parts) {
                assert!(error.contains(part), "{part} is not in {error}");
            }
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn an_http_client_takes_a_proxy_and_another_address_unless_it_is_said_not_to() {
        let team = Team::read(
            "[[workload]]\nname = \"http\"\n[[workload]]\nname = \"dns\"\n",
            "",
        );
        let team = team.unwrap();
        assert_eq!(team.workloads[0].takes().map(<[Takes]>::len), Some(2));
        assert_eq!(team.workloads[1].takes(), None);
    }
}
