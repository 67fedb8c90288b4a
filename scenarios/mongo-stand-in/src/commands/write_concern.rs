//! Waiting until enough members have a write.

use std::time::Duration;

use bson::{Bson, Document, doc};

use super::Request;
use crate::error::{Code, CommandError};
use crate::member::{Event, State};
use crate::oplog::OpTime;
use crate::value::integer;

/// The longest that a write waits for other members where it names no time itself.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How many members must have a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// More than half; what MongoDB takes since version 5 where nothing is said.
    Majority,
    /// This many.
    Members(usize),
}

/// A write concern, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteConcern {
    needed: Needed,
    limit: Option<Duration>,
}

impl WriteConcern {
    /// Reads the command's write concern. `j` is met by the same: data is in memory, so that no member keeps it
    /// longer than another would.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, CommandError> {
        let mut concern = Self {
            needed: Needed::Majority,
            limit: None,
        };
        let Some(wanted) = request.document("writeConcern")? else {
            return Ok(concern);
        };
        let members = request.member.config.members.len();
        match wanted.get("w") {
            None => {}
            Some(Bson::String(mode)) if mode == "majority" => {}
            Some(Bson::String(mode)) => {
                let message = format!("no write concern mode named '{mode}' found");
                return Err(Code::UnknownReplWriteConcern.because(message));
            }
            Some(number) => {
                let number = integer(number).and_then(|number| usize::try_from(number).ok());
                let number = number.ok_or_else(|| {
                    Code::FailedToParse.because("w has to be a number of members or a mode")
                })?;
                if number > members {
                    let message = "not enough data-bearing nodes";
                    return Err(Code::UnsatisfiableWriteConcern.because(message));
                }
                concern.needed = Needed::Members(number);
            }
        }
        let limit = wanted.get("wtimeout").and_then(integer);
        let limit = limit.and_then(|millis| u64::try_from(millis).ok());
        concern.limit = limit
            .filter(|millis| *millis > 0)
            .map(Duration::from_millis);
        Ok(concern)
    }

    /// Waits until enough members have the operation `at`. Gives what the answer says where they have not in time.
    ///
    /// # Errors
    /// Where this member is primary no longer, so that it cannot tell.
    pub(super) async fn wait(
        self,
        request: &Request<'_>,
        at: OpTime,
    ) -> Result<Option<Document>, CommandError> {
        let limit = self.limit.unwrap_or(LONGEST_WAIT);
        let enough = |state: &mut State| {
            let met = match self.needed {
                Needed::Majority => state.committed >= at,
                Needed::Members(number) => state.consensus.holders(at) >= number,
            };
            // What is committed stays so, whoever leads.
            (met || !state.is_primary()).then_some(met)
        };
        match request.member.until(Event::Progress, limit, enough).await {
            Some(true) => Ok(None),
            Some(false) => Err(Code::InterruptedDueToReplStateChange
                .because("operation was interrupted: this member is primary no longer")),
            None => {
                let (code, name) = Code::WriteConcernFailed.parts();
                let message = "waiting for replication timed out";
                let info = doc! { "wtimeout": true };
                Ok(Some(doc! {
                    "code": code, "codeName": name, "errmsg": message, "errInfo": info,
                }))
            }
        }
    }
}
