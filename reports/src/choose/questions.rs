//! The questions that make a team, one after the other. Nothing is asked here: whoever holds a terminal shows
//! [`Interview::next`] and hands back what was answered.

use std::collections::VecDeque;

use toml::{Table, Value};

use super::team::{Team, TeamError};
use super::template::{Choice, DRIVERS, FIELDS, Field, Form, KNOWN_WORKLOADS};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its words.
    pub ask: String,
    /// What answers it.
    pub form: Form,
    /// What is answered where nobody chooses otherwise.
    pub default: Answer,
    about: About,
}

/// An answer, of the question's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The choice of this number, from 0.
    One(usize),
    /// The choices of these numbers.
    Several(Vec<usize>),
    /// Yes, or no.
    YesNo(bool),
    /// What was typed; a number too.
    Words(String),
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The field of this number.
    Field(usize),
    /// The workloads that scenarios stand for.
    Known,
    /// Others.
    Others,
    /// The driver of the workload of this number.
    Driver(usize),
}

/// A team in the making.
#[derive(Debug, Clone)]
pub struct Interview {
    team: Table,
    waiting: VecDeque<Question>,
}

impl Default for Interview {
    fn default() -> Self {
        let team = Table::try_from(Team::default()).expect("a team is plain data");
        let fields = FIELDS.iter().enumerate().map(|(nth, field)| Question {
            ask: field.ask.to_owned(),
            form: field.form,
            default: default(field, value(&team, field)),
            about: About::Field(nth),
        });
        let workloads = [
            Question {
                ask: "What is reached in the cluster?".to_owned(),
                form: Form::Several(KNOWN_WORKLOADS, 0),
                default: Answer::Several(vec![0]),
                about: About::Known,
            },
            Question {
                ask: "What else? Names with commas between, or nothing".to_owned(),
                form: Form::Words,
                default: Answer::Words(String::new()),
                about: About::Others,
            },
        ];
        let waiting = fields.chain(workloads).collect();
        let mut interview = Self { team, waiting };
        interview
            .team
            .insert("workload".to_owned(), Value::Array(Vec::new()));
        interview
    }
}

impl Interview {
    /// The next question; none where all is answered.
    #[must_use]
    pub fn next(&self) -> Option<&Question> {
        self.waiting.front()
    }

    /// Takes the answer to the next question.
    ///
    /// # Errors
    /// What the question takes, where the answer is nothing of it. It stays the next one.
    pub fn answer(&mut self, answer: &Answer) -> Result<(), String> {
        let Some(question) = self.waiting.front() else {
            return Ok(());
        };
        let (about, value) = (question.about, checked(question.form, answer)?);
        self.waiting.pop_front();
        match about {
            About::Field(nth) => self.set(nth, value),
            About::Known => self.add(names(value)),
            About::Others => {
                self.add(names(value));
                self.ask_for_drivers();
            }
            About::Driver(nth) => self.set_driver(nth, value),
        }
        Ok(())
    }

    /// The team that was described so far; what was not answered has its default.
    ///
    /// # Errors
    /// Never of answers that [`Self::answer`] has taken: it is the reader of files that makes the team.
    pub fn team(&self) -> Result<Team, TeamError> {
        Team::read(&self.team.to_string(), "the answers")
    }

    fn set(&mut self, nth: usize, value: Option<Value>) {
        let (Some(field), Some(value)) = (FIELDS.get(nth), value) else {
            return;
        };
        let holder = match field.table {
            "" => Some(&mut self.team),
            table => self.team.get_mut(table).and_then(Value::as_table_mut),
        };
        if let Some(holder) = holder {
            holder.insert(field.key.to_owned(), value);
        }
    }

    fn workloads(&mut self) -> Option<&mut Vec<Value>> {
        self.team.get_mut("workload").and_then(Value::as_array_mut)
    }

    fn add(&mut self, names: Vec<String>) {
        let tables = names
            .into_iter()
            .map(|name| Value::Table(Table::from_iter([("name".to_owned(), Value::String(name))])));
        if let Some(workloads) = self.workloads() {
            workloads.extend(tables);
        }
    }

    fn ask_for_drivers(&mut self) {
        let workloads = self.workloads().map(|it| it.clone()).unwrap_or_default();
        let named = workloads
            .iter()
            .map(|it| it.get("name").and_then(Value::as_str).unwrap_or_default());
        for (nth, name) in named.enumerate() {
            self.waiting.push_back(Question {
                ask: format!("What can the client of {name} be set to?"),
                form: Form::One(DRIVERS),
                default: Answer::One(0),
                about: About::Driver(nth),
            });
        }
    }

    fn set_driver(&mut self, nth: usize, value: Option<Value>) {
        let takes: &[&str] = match value.as_ref().and_then(Value::as_str) {
            Some("neither") => &[],
            Some("proxy") => &["proxy"],
            Some("address-map") => &["address-map"],
            Some("both") => &["proxy", "address-map"],
            _ => return,
        };
        let takes = Value::from(takes.to_vec());
        let workload = self.workloads().and_then(|it| it.get_mut(nth));
        if let Some(workload) = workload.and_then(Value::as_table_mut) {
            workload.insert("driver".to_owned(), takes);
        }
    }
}

/// The value that an answer stands for; nothing, where nothing is a value.
fn checked(form: Form, answer: &Answer) -> Result<Option<Value>, String> {
    let chosen = |choices: &'static [Choice], nth: usize| {
        let choice = choices.get(nth).map(|it| Value::from(it.value));
        choice.ok_or_else(|| format!("there are {} choices", choices.len()))
    };
    match (form, answer) {
        (Form::One(choices), Answer::One(nth)) => chosen(choices, *nth).map(Some),
        (Form::Several(choices, least), Answer::Several(all)) => {
            if all.len() < least {
                return Err(format!(
                    "at least {least} must be chosen: the space bar chooses"
                ));
            }
            let all: Result<Vec<Value>, String> =
                all.iter().map(|it| chosen(choices, *it)).collect();
            Ok(Some(Value::Array(all?)))
        }
        (Form::YesNo, Answer::YesNo(yes)) => Ok(Some(Value::Boolean(*yes))),
        (Form::WholeOrNothing, Answer::Words(text)) if text.trim().is_empty() => Ok(None),
        (Form::Whole(_) | Form::WholeOrNothing, Answer::Words(text)) => {
            let least = if let Form::Whole(least) = form {
                least
            } else {
                0
            };
            let number = text.trim().parse::<u32>().ok().filter(|it| *it >= least);
            let number = number.map(|it| Some(Value::Integer(it.into())));
            number.ok_or_else(|| format!("a whole number from {least} on"))
        }
        (Form::Words, Answer::Words(text)) => Ok(Some(Value::from(text.trim()))),
        _ => Err("the answer is to another question".to_owned()),
    }
}

/// The names in a list, or between commas.
fn names(value: Option<Value>) -> Vec<String> {
    let all: Vec<String> = match value {
        Some(Value::Array(all)) => all
            .iter()
            .filter_map(Value::as_str)
            .map(ToOwned::to_owned)
            .collect(),
        Some(Value::String(text)) => text.split(',').map(|it| it.trim().to_owned()).collect(),
        _ => Vec::new(),
    };
    all.into_iter().filter(|it| !it.is_empty()).collect()
}

fn value<'a>(team: &'a Table, field: &Field) -> Option<&'a Value> {
    match field.table {
        "" => team.get(field.key),
        table => team.get(table)?.get(field.key),
    }
}

/// The answer that a default value stands for.
fn default(field: &Field, value: Option<&Value>) -> Answer {
    let nth = |choices: &[Choice], value: &Value| {
        choices
            .iter()
            .position(|it| Some(it.value) == value.as_str())
    };
    match (field.form, value) {
        (Form::One(choices), Some(value)) => Answer::One(nth(choices, value).unwrap_or_default()),
        (Form::One(_), None) => Answer::One(0),
        (Form::Several(choices, _), value) => {
            let all = value.and_then(Value::as_array).into_iter().flatten();
            Answer::Several(all.filter_map(|it| nth(choices, it)).collect())
        }
        (Form::YesNo, value) => Answer::YesNo(value.and_then(Value::as_bool).unwrap_or_default()),
        (Form::Whole(_) | Form::WholeOrNothing, value) => {
            let number = value.and_then(Value::as_integer);
            Answer::Words(number.map(|it| it.to_string()).unwrap_or_default())
        }
        (Form::Words, value) => {
            Answer::Words(value.and_then(Value::as_str).unwrap_or_default().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every question with `other`, or else with its default.
    fn interviewed(other: impl Fn(&Question) -> Option<Answer>) -> (Team, Vec<String>) {
        let mut interview = Interview::default();
        let mut asked = Vec::new();
        while let Some(question) = interview.next().cloned() {
            asked.push(question.ask.clone());
            let answer = other(&question).unwrap_or_else(|| question.default.clone());
            interview.answer(&answer).unwrap();
        }
        (interview.team().unwrap(), asked)
    }

    #[test]
    fn whoever_only_presses_return_is_the_default_team() {
        let (team, asked) = interviewed(|_| None);
        assert_eq!(team, Team::default());
        // Every field, the two questions for workloads, and one driver.
        assert_eq!(asked.len(), FIELDS.len() + 3);
    }

    #[test]
    fn the_answers_are_the_team_that_a_file_says() {
        let (team, asked) = interviewed(|question| match question.ask.as_str() {
            "How many people connect?" => Some(Answer::Words(" 12 ".to_owned())),
            "Who is root (administrator) on the laptop?" => Some(Answer::One(1)),
            "Which systems do the laptops run?" => Some(Answer::Several(vec![0, 1])),
            "Must UDP work?" => Some(Answer::YesNo(true)),
            "What is reached in the cluster?" => Some(Answer::Several(vec![1])),
            "What else? Names with commas between, or nothing" => {
                Some(Answer::Words("kafka, \"x\" ,".to_owned()))
            }
            "What can the client of redis-cluster be set to?" => Some(Answer::One(4)),
            "What can the client of kafka be set to?" => Some(Answer::One(1)),
            ask if ask.starts_with("How many seconds") => Some(Answer::Words("5".to_owned())),
            _ => None,
        });
        assert!(asked.iter().any(|it| it.contains("\"x\"")), "{asked:?}");
        let file = "people = 12\n\
                    [laptops]\nos = [\"linux\", \"macos\"]\nroot = \"some\"\n\
                    [needs]\nudp = true\ntolerated_silence_s = 5\n\
                    [[workload]]\nname = \"redis-cluster\"\ndriver = [\"proxy\", \"address-map\"]\n\
                    [[workload]]\nname = \"kafka\"\ndriver = []\n\
                    [[workload]]\nname = '\"x\"'\n";
        assert_eq!(Ok(team), Team::read(file, "file"));
    }

    #[test]
    fn what_is_no_answer_leaves_the_question_where_it_is() {
        let mut interview = Interview::default();
        while let Some(question) = interview.next().cloned() {
            let wrong = match question.form {
                Form::One(choices) => Some(Answer::One(choices.len())),
                Form::Several(_, 0) | Form::Words => None,
                Form::Several(..) => Some(Answer::Several(Vec::new())),
                Form::YesNo => Some(Answer::One(0)),
                Form::Whole(_) => Some(Answer::Words("0".to_owned())),
                Form::WholeOrNothing => Some(Answer::Words("-1".to_owned())),
            };
            if let Some(wrong) = wrong {
                assert!(interview.answer(&wrong).is_err(), "{question:?}");
                assert_eq!(interview.next(), Some(&question));
            }
            interview.answer(&question.default).unwrap();
        }
        assert_eq!(interview.team(), Ok(Team::default()));
    }
}
