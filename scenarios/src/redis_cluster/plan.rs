//! From what six nodes say to what is to be done next, so that they become one cluster.
//!
//! Pure: the same answers give the same steps, so forming can be begun again at any point, and a cluster that
//! is formed gives none.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::node::Member;
use super::slots::SLOTS;

/// What one node says.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Where it was asked.
    pub(super) address: SocketAddr,
    /// All that it knows of, itself too.
    pub(super) members: Vec<Member>,
    /// Its `cluster_state` is `ok`.
    pub(super) state_ok: bool,
    /// It follows a master, and has all that this one has.
    pub(super) in_sync: bool,
    /// How many replicas of it are in sync, as it says itself.
    pub(super) replicas: usize,
}

impl View {
    /// What it says of itself.
    pub(super) fn own(&self) -> Result<&Member, String> {
        let own = self.members.iter().find(|member| member.myself);
        own.ok_or_else(|| format!("{} does not say which node it is", self.address))
    }

    fn knows(&self, id: &str) -> bool {
        self.members
            .iter()
            .any(|member| member.id == id && !member.handshake)
    }
}

/// Something to be told to the node of this index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `CLUSTER SET-CONFIG-EPOCH`: masters that begin with different epochs need not settle that themselves.
    SetEpoch { node: usize, epoch: u64 },
    /// `CLUSTER ADDSLOTS`.
    AddSlots { node: usize, slots: Vec<u16> },
    /// `CLUSTER MEET`.
    Meet { node: usize, other: SocketAddr },
    /// `CLUSTER REPLICATE`.
    Replicate { node: usize, master: String },
}

/// The steps that can be taken now, with `replicas` replicas for each master.
pub(super) fn next(views: &[View], replicas: usize) -> Result<Vec<Step>, String> {
    let own: Vec<&Member> = views.iter().map(View::own).collect::<Result<_, _>>()?;
    let masters = masters(&own, replicas)?;
    let mut steps = Vec::new();
    for (rank, &node) in masters.iter().enumerate() {
        let epoch = u64::try_from(rank + 1).unwrap_or(u64::MAX);
        if own[node].epoch == 0 && views[node].members.len() == 1 {
            steps.push(Step::SetEpoch { node, epoch });
        }
        let slots = missing_slots(&own, share(rank, masters.len()));
        if !slots.is_empty() {
            steps.push(Step::AddSlots { node, slots });
        }
    }
    for (node, view) in views.iter().enumerate().skip(1) {
        if !views[0].knows(&own[node].id) {
            steps.push(Step::Meet {
                node: 0,
                other: view.address,
            });
        }
    }
    let followers = (0..views.len()).filter(|node| !masters.contains(node));
    for (turn, node) in followers.enumerate() {
        let master = &own[masters[turn % masters.len()]].id;
        if own[node].master.is_none() && views[node].knows(master) {
            steps.push(Step::Replicate {
                node,
                master: master.clone(),
            });
        }
    }
    Ok(steps)
}

/// What is not yet as it should be, in words; nothing where the cluster is formed.
pub(super) fn unsettled(views: &[View], replicas: usize) -> Result<Vec<String>, String> {
    let own: Vec<&Member> = views.iter().map(View::own).collect::<Result<_, _>>()?;
    let masters = masters(&own, replicas)?;
    let mut reasons = Vec::new();
    for (node, view) in views.iter().enumerate() {
        let known = own.iter().filter(|member| view.knows(&member.id)).count();
        let address = view.address;
        if !view.state_ok {
            reasons.push(format!("{address} does not say that the cluster is ok"));
        } else if known < views.len() {
            reasons.push(format!("{address} knows {known} of {} nodes", views.len()));
        } else if masters.contains(&node) && view.replicas < replicas {
            reasons.push(format!("{address} waits for its replica"));
        } else if !masters.contains(&node) && !view.in_sync {
            reasons.push(format!("{address} is not in sync with its master"));
        }
    }
    Ok(reasons)
}

/// The nodes that are to be masters: where slots are served already, those that serve them (a failover may have
/// changed which), else the first.
fn masters(own: &[&Member], replicas: usize) -> Result<Vec<usize>, String> {
    let wanted = own.len() / (replicas + 1);
    if wanted == 0 {
        return Err(format!(
            "{} nodes are too few for a master with {replicas} replicas",
            own.len()
        ));
    }
    let serving: Vec<usize> = (0..own.len())
        .filter(|node| own[*node].slot_count() > 0)
        .collect();
    if serving.len() == wanted {
        return Ok(serving);
    }
    // Half-formed: who serves already stays, the next that follow nobody join them.
    let free = (0..own.len()).filter(|node| own[*node].master.is_none() && !serving.contains(node));
    let mut chosen: Vec<usize> = serving.iter().copied().chain(free).take(wanted).collect();
    chosen.sort_unstable();
    if chosen.len() < wanted {
        return Err(format!("only {} nodes can be masters", chosen.len()));
    }
    Ok(chosen)
}

/// The slots of the master of this rank: all of them, in parts whose sizes differ by at most one.
fn share(rank: usize, masters: usize) -> std::ops::Range<u16> {
    let at = |rank: usize| u16::try_from(usize::from(SLOTS) * rank / masters).unwrap_or(SLOTS);
    at(rank)..at(rank + 1)
}

fn missing_slots(own: &[&Member], share: std::ops::Range<u16>) -> Vec<u16> {
    let served: BTreeSet<u16> = own
        .iter()
        .flat_map(|member| member.slots.iter().cloned().flatten())
        .collect();
    share.filter(|slot| !served.contains(slot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: usize) -> String {
        format!("{node:040x}")
    }

    fn address(node: usize) -> SocketAddr {
        format!("10.244.1.{}:6379", node + 2).parse().unwrap()
    }

    fn member(node: usize, myself: bool) -> Member {
        Member {
            id: id(node),
            address: address(node).to_string(),
            myself,
            handshake: false,
            master: None,
            epoch: 0,
            slots: Vec::new(),
        }
    }

    /// Six nodes that know nobody.
    fn strangers() -> Vec<View> {
        (0..6)
            .map(|node| View {
                address: address(node),
                members: vec![member(node, true)],
                state_ok: false,
                in_sync: false,
                replicas: 0,
            })
            .collect()
    }

    /// Carries the steps out as Redis does, gossip included.
    fn carry_out(views: &mut [View], steps: &[Step]) {
        for step in steps {
            let (Step::SetEpoch { node, .. }
            | Step::AddSlots { node, .. }
            | Step::Meet { node, .. }
            | Step::Replicate { node, .. }) = step;
            let own = views[*node].members.iter_mut().find(|m| m.myself).unwrap();
            match step {
                Step::SetEpoch { epoch, .. } => own.epoch = *epoch,
                Step::AddSlots { slots, .. } => own.slots.push(slots[0]..=slots[slots.len() - 1]),
                Step::Meet { .. } => {}
                Step::Replicate { master, .. } => own.master = Some(master.clone()),
            }
        }
        if steps.iter().any(|step| matches!(step, Step::Meet { .. })) {
            for (node, view) in views.iter_mut().enumerate() {
                let others = (0..6).filter(|other| *other != node);
                view.members
                    .extend(others.map(|other| member(other, false)));
            }
        }
    }

    fn formed() -> Vec<View> {
        let mut views = strangers();
        for _ in 0..2 {
            let steps = next(&views, 1).unwrap();
            carry_out(&mut views, &steps);
        }
        for (node, view) in views.iter_mut().enumerate() {
            view.state_ok = true;
            view.in_sync = node >= 3;
            view.replicas = usize::from(node < 3);
        }
        views
    }

    #[test]
    fn strangers_get_all_slots_and_are_introduced_before_any_follows() {
        let views = strangers();
        let steps = next(&views, 1).unwrap();
        let mut slots: Vec<u16> = steps
            .iter()
            .flat_map(|step| match step {
                Step::AddSlots { slots, .. } => slots.clone(),
                _ => Vec::new(),
            })
            .collect();
        slots.sort_unstable();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
        let met = steps.iter().filter(|s| matches!(s, Step::Meet { .. }));
        assert_eq!(met.count(), 5);
        let epochs = steps.iter().filter(|s| matches!(s, Step::SetEpoch { .. }));
        assert_eq!(epochs.count(), 3);
        assert!(!steps.iter().any(|s| matches!(s, Step::Replicate { .. })));
    }

    #[test]
    fn once_they_know_each_other_every_master_gets_a_replica() {
        let mut views = strangers();
        let first = next(&views, 1).unwrap();
        carry_out(&mut views, &first);
        let steps = next(&views, 1).unwrap();
        let expected: Vec<Step> = (3..6)
            .map(|node| Step::Replicate {
                node,
                master: id(node - 3),
            })
            .collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_formed_cluster_is_left_as_it_is() {
        let views = formed();
        assert_eq!(next(&views, 1), Ok(Vec::new()));
        assert_eq!(unsettled(&views, 1), Ok(Vec::new()));
    }

    #[test]
    fn after_a_failover_the_new_master_stays_master() {
        let mut views = formed();
        let slots = std::mem::take(&mut views[0].members[0].slots);
        views[0].members[0].master = Some(id(3));
        views[3].members[0].master = None;
        views[3].members[0].slots = slots;
        assert_eq!(next(&views, 1), Ok(Vec::new()));
    }

    #[test]
    fn what_was_interrupted_is_taken_up_where_it_was() {
        let mut views = strangers();
        let first = next(&views, 1).unwrap();
        carry_out(&mut views, &first[..2]);
        let again = next(&views, 1).unwrap();
        assert!(again.len() < first.len());
        carry_out(&mut views, &again);
        let last = next(&views, 1).unwrap();
        carry_out(&mut views, &last);
        assert_eq!(next(&views, 1), Ok(Vec::new()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut views = formed();
        views[4].in_sync = false;
        views[1].state_ok = false;
        let reasons = unsettled(&views, 1).unwrap();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].starts_with("10.244.1.3:6379"), "{reasons:?}");
        assert!(reasons[1].contains("not in sync"), "{reasons:?}");
    }

    #[test]
    fn too_few_nodes_are_an_error() {
        let error = next(&strangers()[..1], 1).unwrap_err();
        assert!(error.contains("too few"), "{error}");
    }
}
