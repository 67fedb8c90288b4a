//! `redis/moved`: keys are written by way of nodes that do not serve them, so that each is answered with MOVED and
//! sent again; then a key in every slot is written and read in the ordinary way.
//!
//! Sent wrong is one slot in so many, and one after the other: the driver asks for the whole map again after each
//! MOVED, as it should, and a storm of them would measure that.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use inroads_harness::clock;
use inroads_harness::dial::Dialer;
use inroads_harness::scenario::Workload;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{RedisError, Value, cmd};
use tokio::time::timeout;

use super::{Guest, KEY_LIFE, Outcome, host_and_port, masters, node_at};
use crate::redis_cluster::client::Seed;
use crate::redis_cluster::node::Member;
use crate::redis_cluster::slots::{SLOTS, TAGS};

/// Keys under way at once.
const AT_ONCE: usize = 512;

/// One slot in so many is written by way of a wrong node: two dozen, of every master.
const SENT_WRONG: usize = 683;

/// Longest time for one slot that is sent wrong, and for all of them in the ordinary way.
const LIMIT: Duration = Duration::from_secs(9);

pub(super) async fn attempt(dialer: &Dialer, workload: &Workload) -> Outcome {
    let expected = format!(
        "all {SLOTS} slots written and read back, some of them by way of a node that says MOVED"
    );
    (expected, try_all(dialer, workload).await)
}

async fn try_all(dialer: &Dialer, workload: &Workload) -> Result<String, String> {
    let seed = Seed::of(workload).map_err(|error| error.to_string())?;
    let mut guest = Guest::connect(dialer, &seed).await?;
    let seen = every_slot(dialer, &mut guest.connection).await?;
    Ok(guest.with_changes(seen))
}

async fn every_slot(dialer: &Dialer, connection: &mut ClusterConnection) -> Result<String, String> {
    let masters = masters(connection).await?;
    let owners = owners(&masters)?;
    let example = moved_by_hand(dialer, &masters, &owners).await?;
    let mark = clock::wall_precise().to_string();
    let key = |tag: &str| format!("moved:{mark}:{{{tag}}}");

    let mut sent_on = 0_usize;
    for slot in (0..SLOTS).step_by(SENT_WRONG) {
        // Any master but the one that serves the slot.
        let wrong = (owners[usize::from(slot)] + 1 + sent_on % (masters.len() - 1)) % masters.len();
        let address = &masters[wrong].address;
        let key = key(&TAGS[usize::from(slot)]);
        let written = write_by(connection, &key, slot, address);
        let written = timeout(LIMIT, written).await;
        let late = || format!("no answer within {} s", LIMIT.as_secs());
        written
            .unwrap_or_else(|_elapsed| Err(late()))
            .map_err(|error| format!("slot {slot} by way of {address}: {error}"))?;
        sent_on += 1;
    }
    // Both in one exchange: how many exchanges a second a method carries is for the loads to say.
    let exchanged = each_slot("written and read", |slot, tag| {
        let (mut connection, key) = (connection.clone(), key(tag));
        async move {
            let mut both = redis::pipe();
            both.cmd("SET").arg(&key).arg(slot).arg("EX").arg(KEY_LIFE);
            both.cmd("GET").arg(&key);
            let said: Result<(Value, Option<String>), RedisError> =
                both.query_async(&mut connection).await;
            let (set, found) = said.map_err(|error| error.to_string())?;
            is_ok(Ok(set))?;
            match found {
                Some(value) if value == slot.to_string() => Ok(()),
                other => Err(format!("it reads as {other:?}")),
            }
        }
    });
    exchanged.await?;
    let mut served: HashMap<&str, usize> = HashMap::new();
    for owner in &owners {
        *served.entry(masters[*owner].address.as_str()).or_default() += 1;
    }
    let mut served: Vec<String> = served
        .into_iter()
        .map(|(address, count)| format!("{count} at {address}"))
        .collect();
    served.sort();
    Ok(format!(
        "{SLOTS} slots: {}; {sent_on} of them were written by way of another node first, as in {example}",
        served.join(", ")
    ))
}

/// For each slot the index of the master that serves it.
fn owners(masters: &[Member]) -> Result<Vec<usize>, String> {
    (0..SLOTS)
        .map(|slot| {
            let owner = masters.iter().position(|master| master.serves(slot));
            owner.ok_or_else(|| format!("no master serves slot {slot}"))
        })
        .collect()
}

/// Shows without the driver that a node sends on what it does not serve.
async fn moved_by_hand(
    dialer: &Dialer,
    masters: &[Member],
    owners: &[usize],
) -> Result<String, String> {
    let wrong = (owners[0] + 1) % masters.len();
    let (host, port) = host_and_port(&masters[wrong].address)?;
    let mut node = node_at(dialer, &host, port).await?;
    let asked: Result<Value, RedisError> = cmd("GET").arg(&TAGS[0]).query_async(&mut node).await;
    match asked {
        Err(error) => match error.redirect_node() {
            Some((to, slot)) => Ok(format!("{host}:{port} answering MOVED {slot} {to}")),
            None => Err(format!("{host}:{port} says {error} where MOVED is due")),
        },
        Ok(value) => Err(format!(
            "{host}:{port} answers {value:?} for a slot that it does not serve"
        )),
    }
}

/// Writes the slot's number by way of the node at `address`.
async fn write_by(
    connection: &mut ClusterConnection,
    key: &str,
    slot: u16,
    address: &str,
) -> Result<(), String> {
    let (host, port) = host_and_port(address)?;
    let mut set = cmd("SET");
    set.arg(key).arg(slot).arg("EX").arg(KEY_LIFE);
    let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
    is_ok(connection.route_command(set, route).await)
}

fn is_ok(said: Result<Value, RedisError>) -> Result<(), String> {
    match said {
        Ok(Value::Okay) => Ok(()),
        Ok(other) => Err(format!("it was answered with {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Does something for every slot, many at once, until the first failure.
async fn each_slot<F>(what: &str, action: impl Fn(u16, &'static str) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>> + Send,
{
    let mut done = 0_usize;
    let actions: Vec<_> = (0..SLOTS)
        .map(|slot| named(slot, action(slot, &TAGS[usize::from(slot)])))
        .collect();
    let mut outcomes = stream::iter(actions).buffer_unordered(AT_ONCE);
    let outcome = timeout(LIMIT, async {
        while let Some(outcome) = outcomes.next().await {
            outcome?;
            done += 1;
        }
        Ok(())
    });
    let late = || format!("no more within {} s", LIMIT.as_secs());
    let outcome = outcome.await.unwrap_or_else(|_elapsed| Err(late()));
    outcome.map_err(|error| format!("{done} of {SLOTS} slots {what}, then {error}"))
}

async fn named(slot: u16, action: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    action
        .await
        .map_err(|error| format!("slot {slot}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(id: &str, slots: std::ops::RangeInclusive<u16>) -> Member {
        Member {
            id: id.to_owned(),
            address: format!("{id}:6379"),
            myself: false,
            handshake: false,
            master: None,
            epoch: 1,
            slots: vec![slots],
        }
    }

    #[test]
    fn every_slot_has_one_owner_or_it_is_named() {
        let whole = owners(&[master("a", 0..=99), master("b", 100..=SLOTS - 1)]).unwrap();
        assert_eq!((whole[99], whole[100], whole.len()), (0, 1, 16_384));
        let gap = owners(&[master("a", 0..=99), master("b", 101..=SLOTS - 1)]).unwrap_err();
        assert_eq!(gap, "no master serves slot 100");
    }

    #[tokio::test]
    async fn the_first_slot_that_fails_is_named_with_how_many_were_done() {
        let error = each_slot("written", |slot, _tag| async move {
            if slot == 700 {
                Err("refused".to_owned())
            } else {
                Ok(())
            }
        });
        let error = error.await.unwrap_err();
        assert!(error.contains("then slot 700: refused"), "{error}");
    }
}
