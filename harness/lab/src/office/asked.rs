//! The names that a server was asked for: each once, with how often and by whom, the latest last.
//!
//! Each once, because a leak is a few questions among the many of a load.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hickory_proto::op::Query;
use hickory_proto::rr::RecordType;
use inroads_harness::clock;
use jiff::Timestamp;
use serde_json::json;

/// How many are remembered. The one that was asked for the longest ago goes first.
const REMEMBERED: usize = 4096;

/// The names.
#[derive(Default)]
pub(super) struct Asked(Mutex<Memory>);

impl Asked {
    /// Remembers a question.
    pub(super) fn note(&self, client: IpAddr, query: &Query) {
        let question = Question {
            client,
            name: query.name().to_lowercase().to_string(),
            kind: query.query_type(),
        };
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.note(question, clock::wall_precise());
    }

    /// One JSON object a line.
    pub(super) fn lines(&self) -> String {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory
            .order
            .values()
            .filter_map(|question| memory.line(question))
            .collect()
    }
}

#[derive(Default)]
struct Memory {
    questions: HashMap<Question, Times>,
    /// The questions by when each was asked last.
    order: BTreeMap<u64, Question>,
    next: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    client: IpAddr,
    name: String,
    kind: RecordType,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    count: u64,
    /// Its key in the order.
    place: u64,
    last: Timestamp,
}

impl Memory {
    fn note(&mut self, question: Question, now: Timestamp) {
        let place = self.next;
        self.next += 1;
        let before = self.questions.get(&question).copied();
        if let Some(before) = before {
            self.order.remove(&before.place);
        }
        let count = before.map_or(0, |before| before.count) + 1;
        let times = Times {
            count,
            place,
            last: now,
        };
        self.order.insert(place, question.clone());
        self.questions.insert(question, times);
        if self.questions.len() > REMEMBERED
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.questions.remove(&oldest);
        }
    }

    fn line(&self, question: &Question) -> Option<String> {
        let times = self.questions.get(question)?;
        let line = json!({
            "name": question.name,
            "type": question.kind.to_string(),
            "client": question.client,
            "count": times.count,
            "last": times.last,
        });
        Some(format!("{line}\n"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn note(memory: &mut Memory, name: &str) {
        let question = Question {
            client: "192.168.50.101".parse().unwrap(),
            name: name.to_owned(),
            kind: RecordType::A,
        };
        memory.note(question, Timestamp::UNIX_EPOCH);
    }

    fn names(asked: &Asked) -> Vec<(String, u64)> {
        let lines = asked.lines();
        let parsed = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        parsed
            .map(|it| {
                (
                    it["name"].as_str().unwrap().to_owned(),
                    it["count"].as_u64().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn each_name_stands_once_and_the_latest_last() {
        let mut memory = Memory::default();
        for name in ["a.", "b.", "a.", "c.", "a."] {
            note(&mut memory, name);
        }
        let asked = Asked(Mutex::new(memory));
        assert_eq!(
            names(&asked),
            [
                ("b.".to_owned(), 1),
                ("c.".to_owned(), 1),
                ("a.".to_owned(), 3)
            ]
        );
        let line: Value = serde_json::from_str(asked.lines().lines().last().unwrap()).unwrap();
        assert_eq!(line["client"], "192.168.50.101");
        assert_eq!(line["type"], "A");
    }

    #[test]
    fn a_leak_is_remembered_through_any_load_and_memory_is_bounded() {
        let mut memory = Memory::default();
        note(&mut memory, "web.default.svc.cluster.local.");
        for _ in 0..100_000 {
            note(&mut memory, "intranet.office.test.");
        }
        let asked = Asked(Mutex::new(memory));
        assert_eq!(names(&asked)[0].0, "web.default.svc.cluster.local.");
        let mut memory = asked.0.into_inner().unwrap();
        for number in 0..2 * REMEMBERED {
            note(&mut memory, &format!("{number}."));
        }
        assert_eq!(
            (memory.questions.len(), memory.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
