//! One connection: requests one after the other, and `hello` answered again and again to who asks for it so.

use std::sync::Arc;

use bson::Document;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::commands::{self, Copy, Request};
use crate::error::{Code, Outcome};
use crate::framing::{self, FramingError};
use crate::member::Member;
use crate::wire::{self, Body, Message};

/// A connection of a client or of another member.
pub(crate) struct Connection {
    member: Arc<Member>,
    number: i64,
    input: tokio::io::BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    copy: Copy,
    /// The number of the last answer.
    last: i32,
}

impl Connection {
    pub(crate) fn new(member: Arc<Member>, number: i64, stream: TcpStream) -> Self {
        // Without it a small answer waits for an acknowledgement; where it cannot be set it does.
        drop(stream.set_nodelay(true));
        let (input, output) = stream.into_split();
        Self {
            member,
            number,
            input: tokio::io::BufReader::new(input),
            output,
            copy: Copy::default(),
            last: 0,
        }
    }

    /// Answers until the other side ends, or sends what is no message.
    pub(crate) async fn serve(mut self) -> Result<(), FramingError> {
        let member = self.member.clone();
        while let Some(message) = framing::receive(&mut self.input, Some(&member.large)).await? {
            self.take(message).await?;
        }
        Ok(())
    }

    async fn take(&mut self, message: Message) -> Result<(), FramingError> {
        match message.body {
            Body::Msg {
                document,
                more_to_come,
                exhaust_allowed,
            } => {
                let first = document.keys().next().cloned().unwrap_or_default();
                let is_hello = matches!(first.as_str(), "hello" | "isMaster" | "ismaster");
                if is_hello && document.contains_key("maxAwaitTimeMS") {
                    let legacy = first != "hello";
                    return self
                        .stream_hello(message.id, &document, legacy, exhaust_allowed)
                        .await;
                }
                let database = document.get_str("$db").unwrap_or_default().to_owned();
                let answer = self.answer(first, database, document).await;
                if more_to_come {
                    return Ok(());
                }
                self.send(message.id, &answer, false).await
            }
            Body::Query {
                namespace,
                document,
            } => {
                let answer = self.answer_query(&namespace, document).await;
                self.last = self.last.wrapping_add(1);
                let bytes = wire::write_reply(self.last, message.id, &answer)?;
                Ok(self.output.write_all(&bytes).await?)
            }
            // Nobody was asked anything here.
            Body::Reply { .. } => Err(wire::WireError::OpCode(1).into()),
        }
    }

    async fn answer(&mut self, name: String, database: String, command: Document) -> Document {
        let request = Request {
            member: &self.member,
            name,
            database,
            command,
            connection: self.number,
            copy: &mut self.copy,
        };
        commands::answer(request).await
    }

    /// By `OP_QUERY` clients ask what a server is, as they did before `OP_MSG`, and nothing else any more.
    async fn answer_query(&mut self, namespace: &str, document: Document) -> Document {
        let name = document.keys().next().cloned().unwrap_or_default();
        let outcome: Outcome = match (namespace.split_once('.'), name.as_str()) {
            (Some((database, "$cmd")), "hello" | "isMaster" | "ismaster") => {
                return self.answer(name, database.to_owned(), document).await;
            }
            _ => Err(Code::CommandNotFound.because(format!(
                "OP_QUERY is for hello and isMaster only, not for '{name}': use OP_MSG"
            ))),
        };
        outcome.unwrap_or_else(|error| error.answer())
    }

    /// Answers a `hello` that waits for a change. Where the client takes several answers one follows the other,
    /// each to the one before, for as long as the client stays (driver specifications, `exhaustAllowed`).
    async fn stream_hello(
        &mut self,
        id: i32,
        command: &Document,
        legacy: bool,
        exhaust_allowed: bool,
    ) -> Result<(), FramingError> {
        let mut answers = id;
        let mut waits_for = command.clone();
        loop {
            tokio::select! {
                () = commands::await_change(&self.member, &waits_for) => {}
                // The client says nothing while it is answered. Where it does it has ended, or broken the rules.
                spoke = spoken(&mut self.input), if exhaust_allowed => {
                    return spoke;
                }
            }
            let mut answer = commands::hello(&self.member, self.number, legacy);
            answer.insert("ok", 1.0);
            if let Some(version) = answer.get("topologyVersion") {
                waits_for.insert("topologyVersion", version.clone());
            }
            self.send(answers, &answer, exhaust_allowed).await?;
            if !exhaust_allowed {
                return Ok(());
            }
            answers = self.last;
        }
    }

    async fn send(
        &mut self,
        answers: i32,
        answer: &Document,
        more_to_come: bool,
    ) -> Result<(), FramingError> {
        self.last = self.last.wrapping_add(1);
        let bytes = match wire::write(self.last, answers, answer, more_to_come) {
            Ok(bytes) => bytes,
            Err(error) => {
                let told = Code::BsonObjectTooLarge.because(error.to_string()).answer();
                wire::write(self.last, answers, &told, false)?
            }
        };
        Ok(self.output.write_all(&bytes).await?)
    }
}

/// Returns once the client sends something, or ends. Nothing is taken away.
async fn spoken(input: &mut tokio::io::BufReader<OwnedReadHalf>) -> Result<(), FramingError> {
    use tokio::io::AsyncBufReadExt as _;
    input.fill_buf().await?;
    Ok(())
}
