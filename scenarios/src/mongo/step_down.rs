//! `mongo/step-down`: a client writes without a pause, is told nothing, and must find the next primary by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use inroads_harness::clock;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use mongodb::{Client, Collection};
use tokio::time::timeout;

use super::client::{Mode, Seen, end, in_short, op_error, options, short};
use super::probes::own_collection;

/// Writes that must be acknowledged before the primary steps down, and again after it.
const WRITES: usize = 20;

/// For how long the old primary stands for no election, in seconds: the next is another.
const STOOD_DOWN: i32 = 3;

/// How long secondaries have to catch up, in seconds; it must be shorter.
const CATCH_UP: i32 = 2;

/// Longest time until a client of the set has followed.
const FOLLOW_LIMIT: Duration = Duration::from_secs(8);

/// The same for a client of one server, which has nobody to follow.
const DIRECT_LIMIT: Duration = Duration::from_secs(3);

/// How soon a write is tried again that failed.
const PAUSE: Duration = Duration::from_millis(20);

/// What the client's writes came to.
struct Written {
    /// The documents whose write was acknowledged.
    acknowledged: BTreeSet<i32>,
    /// The member that answered the last of them.
    by: String,
    errors: usize,
    first_error: Option<String>,
    next: i32,
}

/// Has the primary step down while a client writes.
pub(super) async fn step_down(
    dialer: &Dialer,
    workload: &Workload,
    mode: Mode,
) -> Result<Attempt, OpError> {
    let (mut options, changed) = options(dialer, workload, mode).await?;
    let seen = Seen::default();
    seen.watch(&mut options);
    let client = Client::with_options(options).map_err(op_error)?;
    let collection = own_collection(&client, "step-down");
    let limit = match mode {
        Mode::Set => FOLLOW_LIMIT,
        Mode::Direct => DIRECT_LIMIT,
    };
    let tried = follow(&client, &collection, &seen, limit).await;
    // Through a server that is primary no longer it cannot be dropped, and goes with the workload.
    drop(timeout(DIRECT_LIMIT, collection.drop()).await);
    let expected = "another member takes the client's writes, and has all that were acknowledged";
    let attempt = match tried {
        Ok(text) => Attempt::pass(expected, format!("{text} (with {changed})")),
        Err(text) => {
            let trouble = seen.trouble();
            Attempt::fail(expected, format!("{text} ({trouble}; with {changed})"))
        }
    };
    end(client).await;
    Ok(attempt)
}

async fn follow(
    client: &Client,
    collection: &Collection<Document>,
    seen: &Seen,
    limit: Duration,
) -> Result<String, String> {
    let mut written = Written {
        acknowledged: BTreeSet::new(),
        by: String::new(),
        errors: 0,
        first_error: None,
        next: 0,
    };
    while written.acknowledged.len() < WRITES {
        write(collection, &mut written, seen)
            .await
            .map_err(|error| format!("before the step-down: {}", in_short(&error)))?;
    }
    let before = written.by.clone();
    let order = doc! {
        "replSetStepDown": STOOD_DOWN,
        "secondaryCatchUpPeriodSecs": CATCH_UP,
    };
    // Beside the writes, by a connection of its own of the same client.
    let ordered = async {
        let stepped = client.database("admin").run_command(order).await;
        stepped.map_err(|error| format!("ordering the step-down: {}", in_short(&error)))
    };
    let writing = go_on(collection, &mut written, seen, &before);
    let (stepped, followed) = tokio::join!(ordered, timeout(limit, writing));
    stepped?;
    let pause = followed.map_err(|_elapsed| {
        let why = written.first_error.clone().unwrap_or_default();
        format!(
            "{} stepped down, and no write succeeded at another member within {} s: {why}",
            short(&before),
            limit.as_secs()
        )
    })?;
    let lost = lost(collection, &written.acknowledged).await?;
    let text = format!(
        "{} stepped down, {} took the next write, after a pause of {:.3} s; {} writes acknowledged, {lost} lost, {} errors seen",
        short(&before),
        short(&written.by),
        pause.as_secs_f64(),
        written.acknowledged.len(),
        written.errors,
    );
    if lost == 0 { Ok(text) } else { Err(text) }
}

/// One write; what is acknowledged is noted, and so is who answered.
async fn write(
    collection: &Collection<Document>,
    written: &mut Written,
    seen: &Seen,
) -> Result<(), Error> {
    let id = written.next;
    written.next += 1;
    collection.insert_one(doc! { "_id": id }).await?;
    written.acknowledged.insert(id);
    written.by = seen.answered("insert").unwrap_or_default();
    Ok(())
}

/// Writes until enough writes were acknowledged by another member than `before`; gives the time from the last
/// write that the old one acknowledged to the first of the new one.
async fn go_on(
    collection: &Collection<Document>,
    written: &mut Written,
    seen: &Seen,
    before: &str,
) -> Duration {
    let mut last = clock::now();
    let mut pause = None;
    let mut by_another = 0;
    loop {
        match write(collection, written, seen).await {
            Ok(()) if written.by != before => {
                let pause = *pause.get_or_insert_with(|| last.elapsed());
                by_another += 1;
                if by_another >= WRITES {
                    return pause;
                }
            }
            Ok(()) => last = clock::now(),
            Err(error) => {
                written.errors += 1;
                written.first_error.get_or_insert_with(|| in_short(&error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How many acknowledged writes a majority does not have.
async fn lost(
    collection: &Collection<Document>,
    acknowledged: &BTreeSet<i32>,
) -> Result<usize, String> {
    let failed = |error: Error| format!("reading back: {}", in_short(&error));
    let found = collection
        .find(doc! {})
        .read_concern(ReadConcern::majority());
    let found: Vec<Document> = found
        .await
        .map_err(failed)?
        .try_collect()
        .await
        .map_err(failed)?;
    let found: BTreeSet<i32> = found
        .iter()
        .filter_map(|document| document.get_i32("_id").ok())
        .collect();
    Ok(acknowledged.difference(&found).count())
}
