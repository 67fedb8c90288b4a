//! What the `mongo-replica-set` scenario asks: does a client that is sent on to members find them, and does it
//! follow when another becomes primary? Always the official driver, with its defaults.

use std::collections::BTreeSet;
use std::time::Duration;

use inroads_harness::access::Effort;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::method::Capability;
use inroads_harness::probe::{Attempt, Manner, Probe};
use inroads_harness::scenario::Workload;
use mongodb::bson::{Document, doc, oid::ObjectId};
use mongodb::options::{ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection, ServerType};
use tokio::time::timeout;

use super::client::{Mode, Seen, end, in_short, names, op_error, options, short};
use super::step_down::step_down;
use super::{DATABASE, PORT};

/// The probe that makes the primary step down.
pub(super) const STEP_DOWN: &str = "mongo/step-down";

/// All probes, in report order.
pub(super) const ALL: &[Probe] = &[
    Probe::must(
        "mongo/topology",
        "a client discovers the replica set: the primary answers a write, a secondary a read",
        &[Capability::Tcp, Capability::Dns],
    ),
    Probe::must(
        STEP_DOWN,
        "the primary steps down while a client writes, and the client follows to the next without a loss",
        &[Capability::Tcp, Capability::Dns],
    )
    .asked(Manner::Alone),
];

/// Longest time until a secondary has what was written.
const COPY_LIMIT: Duration = Duration::from_secs(3);

/// How often a secondary is asked again that does not have it yet.
const COPY_PAUSE: Duration = Duration::from_millis(20);

/// One attempt at the probe `id`.
pub(super) async fn attempt(id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
    let rewritten = dialer.access().effort() == Effort::Rewritten;
    let asked = match id {
        "mongo/topology" if rewritten => rewritten_topology(dialer, workload).await,
        "mongo/topology" => topology(dialer, workload, Mode::Set).await,
        // By other addresses there is no set to follow: one server is all that can be named.
        STEP_DOWN if rewritten => step_down(dialer, workload, Mode::Direct).await,
        STEP_DOWN => step_down(dialer, workload, Mode::Set).await,
        other => Err(OpError(format!("there is no probe `{other}`"))),
    };
    asked.unwrap_or_else(|error| {
        let probe = ALL.iter().find(|probe| probe.id == id);
        Attempt::fail(
            probe.map_or("a probe of this scenario", |probe| probe.asks),
            error.0,
        )
    })
}

/// By the listeners' addresses: as a set, where the driver goes by the names that it is told; and as one server,
/// which is what is left to users, and is tried for the evidence though no set can come of it.
async fn rewritten_topology(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let as_set = topology(dialer, workload, Mode::Set).await?;
    if as_set.seen.is_ok() {
        return Ok(as_set);
    }
    let as_one = match topology(dialer, workload, Mode::Direct).await {
        Ok(attempt) => attempt.text().to_owned(),
        Err(error) => error.0,
    };
    let why = as_set.text();
    let text = format!("as a replica set: {why}; as one server: {as_one}");
    Ok(Attempt::fail(as_set.expected, text))
}

/// Writes a document and reads it from a secondary, and looks at who answered.
async fn topology(dialer: &Dialer, workload: &Workload, mode: Mode) -> Result<Attempt, OpError> {
    let names = names(workload);
    let expected = format!(
        "told of {} members; the primary answers the insert, another member the find",
        names.len()
    );
    let (mut options, changed) = options(dialer, workload, mode).await?;
    let seen = Seen::default();
    seen.watch(&mut options);
    let client = Client::with_options(options).map_err(op_error)?;
    let collection = own_collection(&client, "topology");
    let exchanged = write_and_read(&collection).await;
    let attempt = match exchanged {
        Ok(()) => judge(&expected, &names, &seen, &changed),
        Err(why) => Attempt::fail(
            expected,
            format!("{why} ({}; with {changed})", seen.trouble()),
        ),
    };
    drop(collection.drop().await);
    end(client).await;
    Ok(attempt)
}

/// A collection that nobody else uses: other methods are asked at the same time.
pub(super) fn own_collection(client: &Client, purpose: &str) -> Collection<Document> {
    let name = format!("{purpose}-{}", ObjectId::new().to_hex());
    client.database(DATABASE).collection(&name)
}

async fn write_and_read(collection: &Collection<Document>) -> Result<(), String> {
    let document = doc! { "_id": 1, "text": "by way of the primary" };
    let inserted = collection.insert_one(&document).await;
    inserted.map_err(|error| format!("inserting: {}", in_short(&error)))?;
    let secondary =
        || SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: None });
    let reading = async {
        loop {
            let found = collection.find_one(doc! { "_id": 1 });
            match found.selection_criteria(secondary()).await {
                Ok(Some(found)) if found == document => return Ok(()),
                Ok(Some(other)) => return Err(format!("the secondary has {other}")),
                // A majority has it, which this secondary may not be of.
                Ok(None) => tokio::time::sleep(COPY_PAUSE).await,
                Err(error) => return Err(format!("reading: {}", in_short(&error))),
            }
        }
    };
    timeout(COPY_LIMIT, reading)
        .await
        .unwrap_or_else(|_elapsed| Err("a secondary never had what was written".to_owned()))
}

/// Whether the set was seen as it is.
fn judge(expected: &str, names: &[String], seen: &Seen, changed: &str) -> Attempt {
    let members: BTreeSet<String> = names.iter().map(|name| format!("{name}:{PORT}")).collect();
    let wrote = seen.answered("insert").unwrap_or_default();
    let read = seen.answered("find").unwrap_or_default();
    let told = seen.addresses();
    let text = format!(
        "{} answered the insert, {} the find; told of {} members (with {changed})",
        short(&wrote),
        short(&read),
        told.iter()
            .filter(|address| members.contains(*address))
            .count()
    );
    let whole = told.is_superset(&members);
    let primary = seen.kind(&wrote) == Some(ServerType::RsPrimary);
    let secondary = read != wrote && seen.kind(&read) == Some(ServerType::RsSecondary);
    if whole && primary && secondary {
        Attempt::pass(expected, text)
    } else {
        Attempt::fail(expected, text)
    }
}
