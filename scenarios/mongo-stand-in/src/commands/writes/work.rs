//! Reading writes: what a command is to do, before anything is done.

use bson::{Bson, Document};

use crate::commands::{Request, wrong_type};
use crate::error::{Code, CommandError};
use crate::filter::{Filter, truth};
use crate::projection::Projection;
use crate::update::Update;
use crate::value::integer;

/// What a command is to do, read.
pub(super) enum Work {
    Statements {
        statements: Vec<Statement>,
        ordered: bool,
        updates: bool,
    },
    FindAndModify {
        statement: Box<Statement>,
        sort: Document,
        new: bool,
        projection: Projection,
    },
}

impl Work {
    pub(super) fn of(request: &mut Request<'_>) -> Result<Self, CommandError> {
        let ordered = request.command.get("ordered").is_none_or(truth);
        let name = request.name.as_str();
        let list = match name {
            "insert" => "documents",
            "update" => "updates",
            "delete" => "deletes",
            _ => return Self::find_and_modify(request),
        };
        let Some(Bson::Array(items)) = request.command.remove(list) else {
            return Err(wrong_type(list, "an array"));
        };
        if items.is_empty() {
            let message = "write batch sizes must be between 1 and 100000";
            return Err(Code::InvalidOptions.because(message));
        }
        let statement = |item: Bson| {
            let Bson::Document(document) = item else {
                return Err(wrong_type(list, "an array of documents"));
            };
            match list {
                "documents" => Ok(Statement::Insert(document)),
                "updates" => UpdateStatement::of(&document).map(Statement::Update),
                _ => Ok(Statement::Delete {
                    filter: filter(&document, "q")?,
                    many: document.get("limit").and_then(integer) == Some(0),
                }),
            }
        };
        let statements: Result<Vec<_>, _> = items.into_iter().map(statement).collect();
        Ok(Self::Statements {
            statements: statements?,
            ordered,
            updates: list == "updates",
        })
    }

    fn find_and_modify(request: &Request<'_>) -> Result<Self, CommandError> {
        refuse(&request.command, &["arrayFilters"])?;
        let filter = filter(&request.command, "query")?;
        let statement = if request.flag("remove") {
            Statement::Delete {
                filter,
                many: false,
            }
        } else {
            let update = request.command.get("update");
            let update = update.ok_or_else(|| {
                Code::FailedToParse.because("either an update or remove=true must be specified")
            })?;
            Statement::Update(UpdateStatement {
                filter,
                update: Update::parse(update)?,
                many: false,
                upsert: request.flag("upsert"),
            })
        };
        Ok(Self::FindAndModify {
            statement: Box::new(statement),
            sort: request.document("sort")?.cloned().unwrap_or_default(),
            new: request.flag("new"),
            projection: Projection::parse(request.document("fields")?)?,
        })
    }
}

/// A statement of a command.
pub(super) enum Statement {
    Insert(Document),
    Update(UpdateStatement),
    Delete { filter: Filter, many: bool },
}

pub(super) struct UpdateStatement {
    pub(super) filter: Filter,
    pub(super) update: Update,
    pub(super) many: bool,
    pub(super) upsert: bool,
}

impl UpdateStatement {
    fn of(document: &Document) -> Result<Self, CommandError> {
        refuse(document, &["arrayFilters", "c"])?;
        let update = document.get("u");
        let update = update.ok_or_else(|| Code::FailedToParse.because("an update has no `u`"))?;
        let statement = Self {
            filter: filter(document, "q")?,
            update: Update::parse(update)?,
            many: document.get("multi").is_some_and(truth),
            upsert: document.get("upsert").is_some_and(truth),
        };
        if statement.many && statement.update.is_replacement() {
            let message = "multi update is not supported for replacement-style update";
            return Err(Code::FailedToParse.because(message));
        }
        Ok(statement)
    }
}

/// The session and the number of a retryable write.
pub(super) fn session(command: &Document) -> Result<Option<(Vec<u8>, i64)>, CommandError> {
    let Some(number) = command.get("txnNumber") else {
        return Ok(None);
    };
    let number = integer(number).ok_or_else(|| wrong_type("txnNumber", "a whole number"))?;
    let session = command.get_document("lsid");
    let session = session.or(Err(wrong_type(
        "lsid",
        "a document where there is a txnNumber",
    )))?;
    let encoded = session.to_vec();
    let encoded = encoded.map_err(|error| Code::BadValue.because(error.to_string()))?;
    Ok(Some((encoded, number)))
}

fn filter(document: &Document, name: &str) -> Result<Filter, CommandError> {
    match document.get(name) {
        None => Ok(Filter::default()),
        Some(Bson::Document(query)) => Filter::parse(query),
        Some(_) => Err(wrong_type(name, "a query")),
    }
}

/// Refuses what would change the meaning of a statement and is not understood.
fn refuse(document: &Document, names: &[&str]) -> Result<(), CommandError> {
    match names.iter().find(|name| document.contains_key(name)) {
        Some(name) => {
            let message = format!("this stand-in does not know '{name}'");
            Err(Code::InvalidOptions.because(message))
        }
        None => Ok(()),
    }
}
