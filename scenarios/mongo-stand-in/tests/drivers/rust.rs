//! The official driver for Rust, with its default settings.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection};
use tokio::time::{Instant, sleep};

use crate::set::{ELECTION, LIMIT, Set, until};

/// A client of the set, and who answered its last command of each name.
struct Connected {
    client: Client,
    answered: Arc<Mutex<std::collections::BTreeMap<String, String>>>,
}

impl Connected {
    async fn to(set: &Set) -> Self {
        let mut options = ClientOptions::parse(set.uri()).await.unwrap();
        let answered = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
        let told = answered.clone();
        let tell = move |event: CommandEvent| {
            if let CommandEvent::Succeeded(event) = event {
                let by = event.connection.address.to_string();
                told.lock().unwrap().insert(event.command_name, by);
            }
        };
        options.command_event_handler = Some(EventHandler::callback(tell));
        let client = Client::with_options(options).unwrap();
        Self { client, answered }
    }

    fn collection(&self) -> Collection<Document> {
        self.client.database("test").collection("things")
    }

    fn answered(&self, command: &str) -> String {
        self.answered.lock().unwrap()[command].clone()
    }
}

fn from_secondaries() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: None })
}

/// All numbers in the collection that a majority has.
async fn numbers(collection: &Collection<Document>) -> BTreeSet<i32> {
    let found = collection
        .find(doc! {})
        .batch_size(10)
        .read_concern(ReadConcern::majority());
    let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
    let ids: BTreeSet<i32> = found.iter().map(|d| d.get_i32("_id").unwrap()).collect();
    assert_eq!(ids.len(), found.len(), "none twice");
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_to_the_primary_and_reads_to_a_secondary_where_they_are_asked_to() {
    let set = Set::start().await;
    let connected = Connected::to(&set).await;
    let things = connected.collection();
    let primary = set.addresses[set.primary().await].to_string();
    things.insert_one(doc! { "_id": 1, "a": 1 }).await.unwrap();
    assert_eq!(connected.answered("insert"), primary);
    assert_eq!(
        things.find_one(doc! { "a": 1 }).await.unwrap().unwrap(),
        doc! { "_id": 1, "a": 1 }
    );
    assert_eq!(connected.answered("find"), primary);
    until("a secondary has it", async || {
        let found = things.find_one(doc! { "_id": 1 });
        found.selection_criteria(from_secondaries()).await.unwrap()
    })
    .await;
    assert_ne!(connected.answered("find"), primary);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_commands_do_what_they_say() {
    let set = Set::start().await;
    let connected = Connected::to(&set).await;
    let things = connected.collection();
    let many = (0..250).map(|n| doc! { "_id": n, "third": n % 3 });
    assert_eq!(
        things.insert_many(many).await.unwrap().inserted_ids.len(),
        250
    );
    assert_eq!(numbers(&things).await.len(), 250, "by several batches");
    assert_eq!(
        things.count_documents(doc! { "third": 0 }).await.unwrap(),
        84
    );
    assert_eq!(things.estimated_document_count().await.unwrap(), 250);
    let updated = things.update_many(doc! { "third": 1 }, doc! { "$inc": { "n": 1 } });
    assert_eq!(updated.await.unwrap().modified_count, 83);
    let upserted = things
        .update_one(doc! { "_id": 900 }, doc! { "$set": { "a": 1 } })
        .upsert(true);
    assert_eq!(
        upserted.await.unwrap().upserted_id.unwrap().as_i32(),
        Some(900)
    );
    let replaced = things.replace_one(doc! { "_id": 900 }, doc! { "b": 2 });
    assert_eq!(replaced.await.unwrap().modified_count, 1);
    let found = things.find_one(doc! { "_id": 900 }).await.unwrap().unwrap();
    assert_eq!(found, doc! { "_id": 900, "b": 2 });
    let changed = things.find_one_and_update(doc! { "third": 2 }, doc! { "$set": { "third": 9 } });
    let before = changed.sort(doc! { "_id": -1 }).await.unwrap().unwrap();
    assert_eq!(before, doc! { "_id": 248, "third": 2 });
    assert_eq!(
        things
            .delete_many(doc! { "third": 0 })
            .await
            .unwrap()
            .deleted_count,
        84
    );
    let thirds = things.distinct("third", doc! {}).await.unwrap();
    assert_eq!(thirds, [1, 2, 9].map(bson::Bson::Int32));
    let sorted = things
        .find(doc! {})
        .sort(doc! { "_id": -1 })
        .skip(1)
        .limit(2);
    let sorted: Vec<Document> = sorted.await.unwrap().try_collect().await.unwrap();
    let ids: Vec<_> = sorted.iter().map(|d| d.get_i32("_id").unwrap()).collect();
    assert_eq!(ids, [248, 247]);
    let twice = things.insert_one(doc! { "_id": 1 }).await.unwrap_err();
    assert!(twice.to_string().contains("E11000"), "{twice}");
    let database = connected.client.database("test");
    assert_eq!(database.list_collection_names().await.unwrap(), ["things"]);
    database.drop().await.unwrap();
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 0);
}

/// Writes one number after the other until `done`; gives those that were acknowledged, and the errors.
async fn write_until(
    things: &Collection<Document>,
    from: i32,
    done: impl Fn(&BTreeSet<i32>) -> bool,
) -> (BTreeSet<i32>, Vec<String>) {
    let begun = Instant::now();
    let (mut acknowledged, mut errors) = (BTreeSet::new(), Vec::new());
    for number in from.. {
        match things.insert_one(doc! { "_id": number }).await {
            Ok(_) => drop(acknowledged.insert(number)),
            Err(error) => errors.push(error.to_string()),
        }
        if done(&acknowledged) {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "never done: {errors:?}");
        sleep(Duration::from_millis(1)).await;
    }
    (acknowledged, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_is_followed_without_an_error_and_without_a_loss() {
    let set = Set::start().await;
    let connected = Connected::to(&set).await;
    let things = connected.collection();
    let before = set.primary().await;
    let admin = connected.client.database("admin");
    let order = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 2 };
    let old = set.addresses[before].to_string();
    let stepping = async {
        sleep(Duration::from_millis(200)).await;
        admin.run_command(order).await.unwrap();
        Instant::now()
    };
    let writing = write_until(&things, 0, |acknowledged| {
        acknowledged.len() > 50 && connected.answered("insert") != old
    });
    let (stepped, (acknowledged, errors)) = tokio::join!(stepping, writing);
    assert!(
        stepped.elapsed() < ELECTION * 2,
        "nobody waited for a timeout"
    );
    assert_eq!(errors, [""; 0], "the driver retries by itself");
    assert!(numbers(&things).await.is_superset(&acknowledged));
    assert_ne!(set.primary().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_is_replaced_and_comes_back_with_all_data() {
    let mut set = Set::start().await;
    let connected = Connected::to(&set).await;
    let things = connected.collection();
    let (mut all, _) = write_until(&things, 0, |acknowledged| acknowledged.len() >= 30).await;
    let killed = set.primary().await;
    set.kill(killed).await;
    let (more, _) = write_until(&things, 1_000, |acknowledged| acknowledged.len() >= 30).await;
    all.extend(more);
    let primary = set.primary().await;
    assert_ne!(primary, killed);
    assert!(
        numbers(&things).await.is_superset(&all),
        "acknowledged is kept"
    );

    set.start_again(killed).await;
    let count =
        doc! { "count": "things", "$db": "test", "$readPreference": { "mode": "secondary" } };
    let expected = i32::try_from(numbers(&things).await.len()).unwrap();
    until("the member has copied all", async || {
        let answer = set.ask(killed, count.clone()).await;
        (answer.get_i64("n").ok()? == i64::from(expected)).then_some(())
    })
    .await;
    let hello = set.ask(killed, doc! { "hello": 1 }).await;
    assert!(hello.get_bool("secondary").unwrap());
    // What is written from here on comes one by one.
    things.insert_one(doc! { "_id": 5_000 }).await.unwrap();
    until("and what came after", async || {
        let answer = set.ask(killed, count.clone()).await;
        (answer.get_i64("n").ok()? == i64::from(expected) + 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_alone_steps_down_and_its_data_outlives_the_others() {
    let mut set = Set::start().await;
    let connected = Connected::to(&set).await;
    let things = connected.collection();
    let (all, _) = write_until(&things, 0, |acknowledged| acknowledged.len() >= 10).await;
    let primary = set.primary().await;
    let others: Vec<usize> = (0..3).filter(|number| *number != primary).collect();
    for other in &others {
        set.kill(*other).await;
    }
    until("it steps down", async || {
        let hello = set.ask(primary, doc! { "hello": 1 }).await;
        (!hello.get_bool("isWritablePrimary").unwrap()).then_some(())
    })
    .await;
    let refused = set
        .ask(
            primary,
            doc! { "insert": "things", "$db": "test", "documents": [{}] },
        )
        .await;
    assert_eq!(refused.get_i32("code").unwrap(), 10_107, "{refused}");
    for other in &others {
        set.start_again(*other).await;
    }
    set.primary().await;
    assert!(numbers(&things).await.is_superset(&all));
}
