//! `redis/ask`: a slot is moved from one master to another while a client uses it. In the middle of it the key is
//! at neither place for certain, and clients are answered with ASK (Redis Cluster specification, "ASK
//! redirection").

use std::time::Duration;

use inroads_harness::clock;
use inroads_harness::dial::Dialer;
use inroads_harness::scenario::Workload;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, RedisError, Value, cmd};
use tokio::time::timeout;

use super::{Guest, KEY_LIFE, Outcome, host_and_port, masters, node_at};
use crate::redis_cluster::client::Seed;
use crate::redis_cluster::node::Member;
use crate::redis_cluster::slots::{SLOTS, TAGS};

/// Longest time for the whole of it, connecting apart.
const LIMIT: Duration = Duration::from_secs(6);

/// Longest time to give the slot back.
const UNDO_LIMIT: Duration = Duration::from_secs(2);

/// Longest time that Redis may take for one batch of keys, in milliseconds.
const MIGRATE_MS: u64 = 1_000;

/// Reads in each phase.
const READS: usize = 50;

pub(super) async fn attempt(dialer: &Dialer, workload: &Workload) -> Outcome {
    let expected = "a slot is read and written before, while and after it moves".to_owned();
    (expected, try_all(dialer, workload).await)
}

async fn try_all(dialer: &Dialer, workload: &Workload) -> Result<String, String> {
    let seed = Seed::of(workload).map_err(|error| error.to_string())?;
    let mut guest = Guest::connect(dialer, &seed).await?;
    let mut moving = Moving::begin(dialer, &mut guest.connection).await?;
    let used = timeout(LIMIT, moving.use_while_moving(&mut guest.connection)).await;
    let undone = timeout(UNDO_LIMIT, moving.give_back()).await;
    let late = || format!("it took longer than {} s", LIMIT.as_secs());
    let seen = used.unwrap_or_else(|_elapsed| Err(late()))?;
    let left = || "the slot could not be given back in time".to_owned();
    undone.unwrap_or_else(|_elapsed| Err(left()))?;
    Ok(guest.with_changes(seen))
}

/// A slot on its way from one master to another.
struct Moving {
    slot: u16,
    from: Master,
    to: Master,
    others: Vec<Master>,
}

struct Master {
    id: String,
    host: String,
    port: u16,
    connection: MultiplexedConnection,
}

impl Master {
    async fn reach(dialer: &Dialer, member: &Member) -> Result<Self, String> {
        let (host, port) = host_and_port(&member.address)?;
        Ok(Self {
            id: member.id.clone(),
            connection: node_at(dialer, &host, port).await?,
            host,
            port,
        })
    }

    async fn tell(&mut self, command: &Cmd) -> Result<Value, String> {
        let said: Result<Value, RedisError> = command.query_async(&mut self.connection).await;
        said.map_err(|error| format!("{}:{}: {error}", self.host, self.port))
    }

    async fn set_slot(&mut self, slot: u16, state: &str, id: &str) -> Result<(), String> {
        let mut command = cmd("CLUSTER");
        command.arg("SETSLOT").arg(slot).arg(state).arg(id);
        self.tell(&command).await.map(drop)
    }
}

impl Moving {
    async fn begin(dialer: &Dialer, connection: &mut ClusterConnection) -> Result<Self, String> {
        // All methods ask at the same time: each takes a slot by chance.
        let chance = clock::wall_precise().as_nanosecond().unsigned_abs() / 1_000;
        let slot = u16::try_from(chance % u128::from(SLOTS)).unwrap_or_default();
        let mut owner = None;
        let mut others = Vec::new();
        for member in masters(connection).await? {
            let master = Master::reach(dialer, &member).await?;
            if member.serves(slot) {
                owner = Some(master);
            } else {
                others.push(master);
            }
        }
        Ok(Self {
            slot,
            from: owner.ok_or_else(|| format!("no master serves slot {slot}"))?,
            to: others.pop().ok_or("there is no master to move it to")?,
            others,
        })
    }

    /// Keys of the slot; `wall_precise` keeps those of other attempts apart.
    fn keys(&self) -> [String; 3] {
        let (mark, tag) = (clock::wall_precise(), &TAGS[usize::from(self.slot)]);
        ["stays", "goes", "comes"].map(|name| format!("ask:{mark}:{{{tag}}}:{name}"))
    }

    async fn use_while_moving(&mut self, client: &mut ClusterConnection) -> Result<String, String> {
        let slot = self.slot;
        let [stays, goes, comes] = self.keys();
        write(client, &stays).await?;
        write(client, &goes).await?;

        self.to.set_slot(slot, "IMPORTING", &self.from.id).await?;
        self.from.set_slot(slot, "MIGRATING", &self.to.id).await?;
        migrate(&mut self.from, &self.to, &[goes.clone().into_bytes()]).await?;
        let told = self.told_to_ask(&goes).await?;
        for _ in 0..READS {
            read(client, &goes).await?;
            read(client, &stays).await?;
        }
        write(client, &comes).await?;
        read(client, &comes).await?;

        self.move_rest().await?;
        for _ in 0..READS {
            for key in [&stays, &goes, &comes] {
                read(client, key).await?;
            }
        }
        let count = READS * 5 + 1;
        Ok(format!(
            "slot {slot} moved from {}:{} to {}:{} and back; in the middle of it the first said `{told}`; {count} \
             reads and 3 writes were right",
            self.from.host, self.from.port, self.to.host, self.to.port
        ))
    }

    /// Shows without the driver that the old place sends on to ask for a key that has gone.
    async fn told_to_ask(&mut self, key: &str) -> Result<String, String> {
        let mut get = cmd("GET");
        get.arg(key);
        let asked: Result<Value, RedisError> = get.query_async(&mut self.from.connection).await;
        match asked {
            Err(error) if error.code() == Some("ASK") => {
                let (to, slot) = error.redirect_node().unwrap_or_default();
                Ok(format!("ASK {slot} {to}"))
            }
            Err(error) => Err(format!("the old place says {error} where ASK is due")),
            Ok(value) => Err(format!("the old place answers {value:?} where ASK is due")),
        }
    }

    /// Moves what is left of the slot, and lets the new place serve it.
    async fn move_rest(&mut self) -> Result<(), String> {
        migrate_all(&mut self.from, &self.to, self.slot).await?;
        let id = self.to.id.clone();
        // The new place first: it must know before anyone is sent there.
        self.to.set_slot(self.slot, "NODE", &id).await?;
        self.from.set_slot(self.slot, "NODE", &id).await?;
        for other in &mut self.others {
            other.set_slot(self.slot, "NODE", &id).await?;
        }
        Ok(())
    }

    /// Puts the slot back where it was, from wherever the attempt was interrupted.
    async fn give_back(&mut self) -> Result<(), String> {
        let slot = self.slot;
        let serves = |text: Value| -> bool {
            let text: String = redis::from_redis_value(text).unwrap_or_default();
            let members = super::node::parse_members(&text).unwrap_or_default();
            members.iter().any(|m| m.myself && m.serves(slot))
        };
        let asked = self.to.tell(cmd("CLUSTER").arg("NODES")).await?;
        if serves(asked) {
            self.from.set_slot(slot, "IMPORTING", &self.to.id).await?;
            self.to.set_slot(slot, "MIGRATING", &self.from.id).await?;
        }
        migrate_all(&mut self.to, &self.from, slot).await?;
        let id = self.from.id.clone();
        self.from.set_slot(slot, "NODE", &id).await?;
        self.to.set_slot(slot, "NODE", &id).await?;
        for other in &mut self.others {
            other.set_slot(slot, "NODE", &id).await?;
        }
        Ok(())
    }
}

/// Moves all keys of a slot that are at `from`.
async fn migrate_all(from: &mut Master, to: &Master, slot: u16) -> Result<(), String> {
    const BATCH: u64 = 100;
    loop {
        let mut command = cmd("CLUSTER");
        command.arg("GETKEYSINSLOT").arg(slot).arg(BATCH);
        let found = from.tell(&command).await?;
        let keys: Vec<Vec<u8>> =
            redis::from_redis_value(found).map_err(|error| error.to_string())?;
        if keys.is_empty() {
            return Ok(());
        }
        migrate(from, to, &keys).await?;
    }
}

async fn migrate(from: &mut Master, to: &Master, keys: &[Vec<u8>]) -> Result<(), String> {
    let mut command = cmd("MIGRATE");
    command
        .arg(&to.host)
        .arg(to.port)
        .arg("")
        .arg(0)
        .arg(MIGRATE_MS)
        .arg("REPLACE")
        .arg("KEYS")
        .arg(keys);
    from.tell(&command).await.map(drop)
}

/// A value is the key's own name.
async fn write(client: &mut ClusterConnection, key: &str) -> Result<(), String> {
    let mut set = cmd("SET");
    set.arg(key).arg(key).arg("EX").arg(KEY_LIFE);
    let said: Result<Value, RedisError> = set.query_async(client).await;
    match said {
        Ok(Value::Okay) => Ok(()),
        Ok(other) => Err(format!("writing `{key}` was answered with {other:?}")),
        Err(error) => Err(format!("writing `{key}`: {error}")),
    }
}

async fn read(client: &mut ClusterConnection, key: &str) -> Result<(), String> {
    let found: Result<Option<String>, RedisError> = cmd("GET").arg(key).query_async(client).await;
    match found {
        Ok(Some(value)) if value == key => Ok(()),
        Ok(other) => Err(format!("`{key}` reads as {other:?}")),
        Err(error) => Err(format!("reading `{key}`: {error}")),
    }
}
