//! The rights that methods say they need, and whether a team has them.
//!
//! A result file has a method's needs as sentences, `party: what`. Which right such a sentence names is found by the
//! words of one table; a sentence that names none is shown as it is and never passed over.

use super::team::{Overlap, Root, Team, Where, Who};

/// A right, or a setting, that a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Root on the laptop.
    Root,
    /// The right to forward ports.
    PortForward,
    /// A privileged pod.
    PrivilegedPod,
    /// A node port that laptops reach.
    NodePort,
    /// The API server, reached from the laptop.
    ApiServer,
    /// The nodes' LAN, or routers that can be configured.
    NodesLan,
    /// Networks that overlap nothing.
    NoOverlap,
    /// Clients that are told the listener's address.
    Address,
    /// Clients that are set to a proxy.
    Proxy,
}

/// Whose need it is, words of it, and what that comes to.
const WORDS: &[(&str, &str, Right)] = &[
    ("laptop", "root", Right::Root),
    ("cluster", "pods/portforward", Right::PortForward),
    ("cluster", "privileged pod", Right::PrivilegedPod),
    ("cluster", "NodePort", Right::NodePort),
    ("network", "node port", Right::NodePort),
    ("network", "API server", Right::ApiServer),
    ("network", "nodes' LAN", Right::NodesLan),
    ("network", "overlap nothing", Right::NoOverlap),
    ("clients", "listener's address", Right::Address),
    ("clients", "proxy setting", Right::Proxy),
];

/// The rights that a declared need names; none where it names none that is known.
pub(super) fn named(need: &str) -> Vec<Right> {
    let (party, what) = need.split_once(": ").unwrap_or(("", need));
    let of_party = WORDS.iter().filter(|(whose, ..)| *whose == party);
    of_party
        .filter(|(_, words, _)| what.contains(words))
        .map(|(.., right)| *right)
        .collect()
}

/// Whether a declared need is one that rules know.
#[must_use]
pub fn is_known(need: &str) -> bool {
    !named(need).is_empty()
}

/// How a team stands to a right.
pub(super) enum Standing {
    /// It has it.
    Has(&'static str),
    /// It would have it, if this were done.
    If(&'static str, Burden),
    /// It has not, and will not.
    Lacks(&'static str),
    /// It is for each client to say.
    ByClient,
}

/// Who has to do what is to be done, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Burden {
    /// The team, once.
    Once,
    /// Another department, once.
    Asking,
    /// Everybody, at a laptop.
    EachLaptop,
    /// A client is given a setting.
    Setting,
    /// A client is given other addresses.
    Addresses,
    /// Nobody knows yet whether a client can be set up like that.
    Unknown,
    /// Something must be measured first.
    Measuring,
}

impl Burden {
    /// What it weighs against a method. Only the order of sums counts: a setting is less than typing other addresses,
    /// one's own work less than asking somebody, once less than at each laptop, and that more with more people.
    pub(super) fn weight(self, team: &Team) -> u32 {
        match self {
            Self::Once | Self::Setting | Self::Unknown | Self::Measuring => 1,
            Self::Asking | Self::Addresses => 2,
            Self::EachLaptop => 2 + team.people.ilog10(),
        }
    }
}

/// How `team` stands to `right`.
pub(super) fn standing(right: Right, team: &Team) -> Standing {
    let rights = &team.rights;
    match right {
        Right::Root => match team.laptops.root {
            Root::Yes => Standing::Has("everybody is root on the laptop"),
            Root::Some => Standing::If(
                "those who are not root on their laptop become it",
                Burden::EachLaptop,
            ),
            Root::No => Standing::Lacks("nobody is root on the laptop"),
        },
        Right::PortForward => by(
            rights.port_forward,
            "the team may grant the right to forward ports",
            "another department grants the right to forward ports",
            "nobody may grant the right to forward ports",
        ),
        Right::PrivilegedPod => by(
            rights.privileged_pods,
            "the team may run privileged pods",
            "another department runs the privileged pod",
            "nobody may run privileged pods",
        ),
        Right::NodePort => by(
            rights.node_ports,
            "the team may open node ports",
            "another department opens the node port",
            "nobody may open node ports",
        ),
        Right::ApiServer if rights.api_server => Standing::Has("laptops reach the API server"),
        Right::ApiServer => Standing::Lacks("laptops do not reach the API server"),
        Right::NodesLan => nodes_lan(team),
        Right::NoOverlap => match team.cluster.overlap {
            Overlap::No => Standing::Has("the networks overlap nothing"),
            Overlap::Unknown => Standing::If(
                "the cluster's networks overlap none on the laptops' side",
                Burden::Once,
            ),
            Overlap::Yes => Standing::Lacks("the networks overlap"),
        },
        Right::Address | Right::Proxy => Standing::ByClient,
    }
}

fn nodes_lan(team: &Team) -> Standing {
    match (team.cluster.place, team.rights.gateways) {
        (Where::SameLan, _) => Standing::Has("laptops and nodes are on one LAN"),
        (_, Who::Team) => Standing::If("the team configures every router on the way", Burden::Once),
        (_, Who::AnotherDepartment) => Standing::If(
            "another department configures every router on the way",
            Burden::Asking,
        ),
        (_, Who::Nobody) => Standing::Lacks(
            "laptops and nodes are not on one LAN, and nobody may configure the routers between",
        ),
    }
}

fn by(who: Who, team: &'static str, other: &'static str, nobody: &'static str) -> Standing {
    match who {
        Who::Team => Standing::Has(team),
        Who::AnotherDepartment => Standing::If(other, Burden::Asking),
        Who::Nobody => Standing::Lacks(nobody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_can_name_several_rights_and_one_that_no_rule_knows_names_none() {
        let need = "cluster: a privileged pod, Secrets and a NodePort Service";
        assert_eq!(named(need), [Right::PrivilegedPod, Right::NodePort]);
        assert_eq!(named("laptop: root, for routes"), [Right::Root]);
        assert!(!is_known("laptop: a proxy setting"));
        assert!(!is_known("a moon on a stick"));
    }

    #[test]
    fn root_for_more_people_weighs_more() {
        let mut team = Team::default();
        let few = Burden::EachLaptop.weight(&team);
        team.people = 200.try_into().unwrap();
        assert!(Burden::EachLaptop.weight(&team) > few);
        assert!(few > Burden::Once.weight(&team));
    }
}
