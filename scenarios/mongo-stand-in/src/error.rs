//! Errors of commands, with the codes and names of MongoDB's own list (`error_codes.yml`), which drivers act upon.

use bson::{Document, doc};

/// A command failed: what its answer says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?})")]
pub(crate) struct CommandError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// The answer to a command, or why there is none.
pub(crate) type Outcome = Result<Document, CommandError>;

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BadValue,
    FailedToParse,
    TypeMismatch,
    IllegalOperation,
    NamespaceNotFound,
    CursorNotFound,
    CommandNotFound,
    WriteConcernFailed,
    InvalidOptions,
    InvalidNamespace,
    UnknownReplWriteConcern,
    NotYetInitialized,
    UnsatisfiableWriteConcern,
    ExceededMemoryLimit,
    TransactionTooOld,
    NoSuchTransaction,
    ExceededTimeLimit,
    NotWritablePrimary,
    DuplicateKey,
    InterruptedDueToReplStateChange,
    OutOfDiskSpace,
    NotPrimaryNoSecondaryOk,
    NotPrimaryOrSecondary,
    UnrecognizedStage,
    BsonObjectTooLarge,
}

impl Code {
    /// The number, and the name as MongoDB spells it.
    pub(crate) fn parts(self) -> (i32, &'static str) {
        match self {
            Self::BadValue => (2, "BadValue"),
            Self::FailedToParse => (9, "FailedToParse"),
            Self::TypeMismatch => (14, "TypeMismatch"),
            Self::IllegalOperation => (20, "IllegalOperation"),
            Self::NamespaceNotFound => (26, "NamespaceNotFound"),
            Self::CursorNotFound => (43, "CursorNotFound"),
            Self::CommandNotFound => (59, "CommandNotFound"),
            Self::WriteConcernFailed => (64, "WriteConcernFailed"),
            Self::InvalidOptions => (72, "InvalidOptions"),
            Self::InvalidNamespace => (73, "InvalidNamespace"),
            Self::UnknownReplWriteConcern => (79, "UnknownReplWriteConcern"),
            Self::NotYetInitialized => (94, "NotYetInitialized"),
            Self::UnsatisfiableWriteConcern => (100, "UnsatisfiableWriteConcern"),
            Self::ExceededMemoryLimit => (146, "ExceededMemoryLimit"),
            Self::TransactionTooOld => (225, "TransactionTooOld"),
            Self::NoSuchTransaction => (251, "NoSuchTransaction"),
            Self::ExceededTimeLimit => (262, "ExceededTimeLimit"),
            Self::NotWritablePrimary => (10_107, "NotWritablePrimary"),
            Self::DuplicateKey => (11_000, "DuplicateKey"),
            Self::InterruptedDueToReplStateChange => (11_602, "InterruptedDueToReplStateChange"),
            Self::OutOfDiskSpace => (14_031, "OutOfDiskSpace"),
            Self::NotPrimaryNoSecondaryOk => (13_435, "NotPrimaryNoSecondaryOk"),
            Self::NotPrimaryOrSecondary => (13_436, "NotPrimaryOrSecondary"),
            Self::UnrecognizedStage => (40_324, "Location40324"),
            Self::BsonObjectTooLarge => (10_334, "BSONObjectTooLarge"),
        }
    }

    /// Whether the member's place in the set is the cause, so that its `topologyVersion` goes with the error.
    pub(crate) fn is_state_change(self) -> bool {
        matches!(
            self,
            Self::NotWritablePrimary
                | Self::InterruptedDueToReplStateChange
                | Self::NotPrimaryNoSecondaryOk
                | Self::NotPrimaryOrSecondary
        )
    }

    /// With this message.
    pub(crate) fn because(self, message: impl Into<String>) -> CommandError {
        CommandError {
            code: self,
            message: message.into(),
        }
    }
}

impl CommandError {
    /// The answer that tells it.
    pub(crate) fn answer(&self) -> Document {
        let (code, name) = self.code.parts();
        doc! { "ok": 0.0, "errmsg": &self.message, "code": code, "codeName": name }
    }
}
