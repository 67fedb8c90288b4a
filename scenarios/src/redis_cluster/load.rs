//! The loads of the `redis-cluster` scenario: GET and SET in turn over keys in every slot, one by one and in
//! pipelines.
//!
//! The sessions of a load share a few connections of the driver, as users of it are told to do: each is a clone
//! that waits for its own answer. Every answer is compared with what must be there.

use std::cell::Cell;
use std::rc::Rc;

use futures_util::stream::{self, TryStreamExt as _};
use inroads_harness::measure::{Load, Op, OpError, Session};
use redis::aio::ConnectionLike as _;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::sync::OnceCell;

use super::client::Client;
use super::slots::TAGS;

/// The size of a value, in bytes.
pub(super) const VALUE: usize = 64;

/// Connections of the driver that the sessions of a load share; each has one to every node.
const SHARED: usize = 4;

/// Writes under way at once while the keys are filled.
const FILLING: usize = 256;

/// One slot in so many has the keys of a pipeline.
const PIPELINE_STRIDE: usize = 16;

/// GET and SET, one after the other, not pipelined.
pub(super) struct Operations {
    shared: Shared,
    keys: Rc<[Key]>,
}

/// Pipelines of GET and SET in turn. All keys of one are in one slot, since a pipeline goes to one node.
pub(super) struct Pipelined {
    shared: Shared,
    batches: Rc<[Batch]>,
}

/// What the sessions of a load have in common.
struct Shared {
    client: Client,
    /// What is written before anything is timed.
    fill: Rc<[Key]>,
    connections: OnceCell<Vec<ClusterConnection>>,
    opened: Cell<usize>,
    seed: u64,
}

struct Key {
    set: Cmd,
    get: Cmd,
    value: Vec<u8>,
}

struct Batch {
    commands: Pipeline,
    /// What must be answered to each.
    answers: Vec<Value>,
}

impl Operations {
    pub(super) fn new(client: Client, seed: u64) -> Self {
        let keys = TAGS.iter().map(|tag| Key::new(&format!("load:{{{tag}}}")));
        let keys: Rc<[Key]> = keys.collect();
        Self {
            shared: Shared::new(client, keys.clone(), seed),
            keys,
        }
    }
}

impl Pipelined {
    pub(super) fn new(client: Client, depth: usize, seed: u64) -> Self {
        let tags = TAGS.iter().step_by(PIPELINE_STRIDE);
        Self {
            // A pipeline writes what it reads.
            shared: Shared::new(client, Rc::new([]), seed),
            batches: tags.map(|tag| Batch::new(tag, depth)).collect(),
        }
    }
}

impl Key {
    fn new(name: &str) -> Self {
        let value = value_of(name);
        let (mut set, mut get) = (cmd("SET"), cmd("GET"));
        set.arg(name).arg(&value);
        get.arg(name);
        Self { set, get, value }
    }
}

impl Batch {
    fn new(tag: &str, depth: usize) -> Self {
        let mut commands = redis::pipe();
        let mut answers = Vec::new();
        for index in 0..depth {
            let key = Key::new(&format!("load:{{{tag}}}:{}", index / 2));
            if index % 2 == 0 {
                commands.add_command(key.set);
                answers.push(Value::Okay);
            } else {
                commands.add_command(key.get);
                answers.push(Value::BulkString(key.value));
            }
        }
        Self { commands, answers }
    }
}

/// A value that belongs to its key, so that an answer to another's question is seen.
fn value_of(name: &str) -> Vec<u8> {
    name.bytes()
        .chain(std::iter::repeat(b'.'))
        .take(VALUE)
        .collect()
}

impl Shared {
    fn new(client: Client, fill: Rc<[Key]>, seed: u64) -> Self {
        Self {
            client,
            fill,
            connections: OnceCell::new(),
            opened: Cell::new(0),
            seed,
        }
    }

    /// A clone of one of the connections, in turn, and where its session begins among `count` things.
    async fn next(&self, count: usize) -> Result<(ClusterConnection, Places), OpError> {
        let connections = self.connections.get_or_try_init(|| self.connect()).await?;
        let turn = self.opened.get();
        self.opened.set(turn + 1);
        let places = Places::new(self.seed ^ turn as u64, count);
        Ok((connections[turn % connections.len()].clone(), places))
    }

    async fn connect(&self) -> Result<Vec<ClusterConnection>, OpError> {
        let connecting = (0..SHARED).map(|_| self.client.connect());
        let connected = futures_util::future::try_join_all(connecting).await;
        let connected = connected.map_err(|error| failed(&error))?;
        fill(&connected[0], &self.fill).await?;
        Ok(connected)
    }
}

/// Places among so many, at random but the same each time (xorshift).
struct Places {
    state: u64,
    count: u64,
}

impl Places {
    fn new(seed: u64, count: usize) -> Self {
        Self {
            // Any state but zero; odd multiples keep neighbouring seeds apart.
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            count: count.max(1) as u64,
        }
    }

    fn next(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % self.count).unwrap_or_default()
    }
}

pub(super) struct OperationsSession {
    connection: ClusterConnection,
    keys: Rc<[Key]>,
    places: Places,
    reads: bool,
}

impl Load for Operations {
    type Session = OperationsSession;

    async fn open(&self) -> Result<OperationsSession, OpError> {
        let (connection, places) = self.shared.next(self.keys.len()).await?;
        Ok(OperationsSession {
            connection,
            keys: self.keys.clone(),
            places,
            reads: false,
        })
    }
}

/// Writes every key once, so that reads find something.
async fn fill(connection: &ClusterConnection, keys: &[Key]) -> Result<(), OpError> {
    stream::iter(keys.iter().map(Ok))
        .try_for_each_concurrent(FILLING, |key| {
            let mut connection = connection.clone();
            async move {
                let answer = connection.req_packed_command(&key.set).await;
                expect(&answer.map_err(|error| failed(&error))?, &Value::Okay)
            }
        })
        .await
}

impl Session for OperationsSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        let key = &self.keys[self.places.next()];
        self.reads = !self.reads;
        let command = if self.reads { &key.get } else { &key.set };
        let answer = self.connection.req_packed_command(command).await;
        match answer.map_err(|error| failed(&error))? {
            Value::BulkString(value) if self.reads && value == key.value => {}
            Value::Okay if !self.reads => {}
            other => return Err(wrong(&other)),
        }
        Ok(Op {
            bytes: VALUE as u64,
            ..Op::default()
        })
    }
}

pub(super) struct PipelinedSession {
    connection: ClusterConnection,
    batches: Rc<[Batch]>,
    places: Places,
}

impl Load for Pipelined {
    type Session = PipelinedSession;

    async fn open(&self) -> Result<PipelinedSession, OpError> {
        let (connection, places) = self.shared.next(self.batches.len()).await?;
        Ok(PipelinedSession {
            connection,
            batches: self.batches.clone(),
            places,
        })
    }
}

impl Session for PipelinedSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        let batch = &self.batches[self.places.next()];
        let count = batch.answers.len();
        let answers = self
            .connection
            .req_packed_commands(&batch.commands, 0, count)
            .await;
        let answers = answers.map_err(|error| failed(&error))?;
        if answers.len() != count {
            let text = format!("{} answers came to {count} questions", answers.len());
            return Err(OpError(text));
        }
        for (answer, expected) in answers.iter().zip(&batch.answers) {
            expect(answer, expected)?;
        }
        Ok(Op {
            bytes: (count * VALUE) as u64,
            ..Op::default()
        })
    }
}

fn expect(answer: &Value, expected: &Value) -> Result<(), OpError> {
    if answer == expected {
        return Ok(());
    }
    Err(wrong(answer))
}

fn wrong(answer: &Value) -> OpError {
    OpError(format!("another answer came than is due: {answer:?}"))
}

fn failed(error: &RedisError) -> OpError {
    OpError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::slots::{SLOTS, slot_of};
    use super::*;

    #[test]
    fn places_are_spread_over_all_there_are() {
        let mut places = Places::new(7, 100);
        let mut seen = [0; 100];
        for _ in 0..10_000 {
            seen[places.next()] += 1;
        }
        assert!(
            seen.iter().all(|count| (50..200).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn a_value_tells_its_key() {
        assert_ne!(value_of("load:{1}"), value_of("load:{2}"));
        assert_eq!(value_of("load:{1}").len(), VALUE);
    }

    #[test]
    fn a_pipeline_stays_in_one_slot_and_pipelines_are_spread_over_all() {
        let tags: Vec<&String> = TAGS.iter().step_by(PIPELINE_STRIDE).collect();
        let last = slot_of(tags[tags.len() - 1].as_bytes());
        assert!(last > SLOTS - 100, "{last}");
        let batch = Batch::new(tags[1], 16);
        assert_eq!((batch.commands.len(), batch.answers.len()), (16, 16));
        let slots = batch.commands.cmd_iter().map(|command| {
            let Some(redis::Arg::Simple(key)) = command.args_iter().nth(1) else {
                panic!("a command without a key");
            };
            redis::cluster_routing::Slot::for_key(key)
        });
        let own = redis::cluster_routing::Slot::new(16).unwrap();
        assert!(slots.into_iter().all(|slot| slot == own));
    }
}
