//! The loads of the `mongo-replica-set` scenario: finds and inserts by the official driver, its default settings
//! but for the number of connections.

use std::cell::Cell;
use std::rc::Rc;

use inroads_harness::access::Effort;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::{Load, Op, OpError, Session};
use inroads_harness::scenario::Workload;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};

use super::client::{Mode, end, op_error, options};
use super::probes::own_collection;

/// Documents that are found.
const DOCUMENTS: i32 = 1_000;

/// What each document carries, beside its number.
const TEXT: &str = "Inroads: a document of the inside. The text that you are reading has one hundred and twenty-eight letters, its end included...!!";

/// A client with documents of its own.
pub(super) struct Base {
    client: Client,
    collection: Collection<Document>,
}

impl Base {
    /// Connects, by as little effort as the access allows: without their names members are no set, and the
    /// primary is used as one server.
    pub(super) async fn open(
        dialer: &Dialer,
        workload: &Workload,
        connections: usize,
    ) -> Result<Self, OpError> {
        let mode = match dialer.access().effort() {
            Effort::Rewritten => Mode::Direct,
            Effort::Unmodified | Effort::Configured => Mode::Set,
        };
        let (mut options, _) = options(dialer, workload, mode).await?;
        options.max_pool_size = u32::try_from(connections).ok();
        let client = Client::with_options(options).map_err(op_error)?;
        let collection = own_collection(&client, "load");
        Ok(Self { client, collection })
    }

    /// Puts in what will be found.
    pub(super) async fn fill(&self) -> Result<(), OpError> {
        let documents = (0..DOCUMENTS).map(document);
        let inserted = self.collection.insert_many(documents).await;
        inserted.map(|_inserted| ()).map_err(op_error)
    }

    /// Takes all of it away again: data is in memory. What cannot be taken away goes with the workload.
    pub(super) async fn end(self) {
        if let Err(error) = self.collection.drop().await {
            tracing::warn!(%error, "dropping a load's collection");
        }
        end(self.client).await;
    }

    /// Finds by number.
    pub(super) fn finds(&self) -> Finds {
        Finds {
            collection: self.collection.clone(),
            next: Rc::default(),
        }
    }

    /// Inserts with numbers behind those that are found.
    pub(super) fn inserts(&self) -> Inserts {
        Inserts {
            collection: self.collection.clone(),
            next: Rc::new(Cell::new(i64::from(DOCUMENTS))),
        }
    }
}

fn document(number: i32) -> Document {
    doc! { "_id": number, "text": TEXT }
}

/// Documents found by their `_id`.
pub(super) struct Finds {
    collection: Collection<Document>,
    next: Rc<Cell<i32>>,
}

pub(super) struct FindSession {
    collection: Collection<Document>,
    next: Rc<Cell<i32>>,
}

impl Load for Finds {
    type Session = FindSession;

    async fn open(&self) -> Result<FindSession, OpError> {
        let mut session = FindSession {
            collection: self.collection.clone(),
            next: self.next.clone(),
        };
        session.run().await?;
        Ok(session)
    }
}

impl Session for FindSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        let number = self.next.get();
        self.next.set((number + 1) % DOCUMENTS);
        let found = self.collection.find_one(doc! { "_id": number }).await;
        match found.map_err(op_error)? {
            Some(found) if found == document(number) => Ok(Op {
                bytes: TEXT.len() as u64,
                ..Op::default()
            }),
            Some(other) => Err(OpError(format!(
                "another document came instead of {number}: {other}"
            ))),
            None => Err(OpError(format!("document {number} was not found"))),
        }
    }
}

/// New documents, each acknowledged as the set's default has it: by a majority.
pub(super) struct Inserts {
    collection: Collection<Document>,
    next: Rc<Cell<i64>>,
}

pub(super) struct InsertSession {
    collection: Collection<Document>,
    next: Rc<Cell<i64>>,
}

impl Load for Inserts {
    type Session = InsertSession;

    async fn open(&self) -> Result<InsertSession, OpError> {
        let mut session = InsertSession {
            collection: self.collection.clone(),
            next: self.next.clone(),
        };
        session.run().await?;
        Ok(session)
    }
}

impl Session for InsertSession {
    async fn run(&mut self) -> Result<Op, OpError> {
        let number = self.next.get();
        self.next.set(number + 1);
        let document = doc! { "_id": number, "text": TEXT };
        let inserted = self
            .collection
            .insert_one(document)
            .await
            .map_err(op_error)?;
        if inserted.inserted_id.as_i64() != Some(number) {
            let other = inserted.inserted_id;
            return Err(OpError(format!(
                "{other} was acknowledged instead of {number}"
            )));
        }
        Ok(Op {
            bytes: TEXT.len() as u64,
            ..Op::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_long_as_it_says() {
        assert_eq!(TEXT.len(), 128);
    }
}
