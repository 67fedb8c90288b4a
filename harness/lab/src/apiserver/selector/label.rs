//! Label selectors, in the two forms the API knows: the string of a query (`app=web,tier in (a, b),
//! !canary`) and the object of a spec (`matchLabels`, `matchExpressions`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    str::FromStr,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::apiserver::syntax;

/// What can be wrong with a label selector.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("found '{found}', expected: {expected}")]
    Unexpected {
        found: String,
        expected: &'static str,
    },
    #[error("invalid label key \"{key}\": {why}")]
    Key { key: String, why: &'static str },
    #[error("invalid label value \"{value}\": {why}")]
    Value { value: String, why: &'static str },
    #[error("for 'in', 'notin' operators, values set can't be empty")]
    NoValues,
    #[error("for 'Gt', 'Lt' operators, the value must be an integer, not \"{value}\"")]
    NotAnInteger { value: String },
    #[error("\"{operator}\" is not a valid label selector operator")]
    Operator { operator: String },
    #[error("values set must be empty for exists and does not exist")]
    Values,
}

/// Requirements that must all hold; none of them means that everything matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Above(i64),
    Below(i64),
}

/// Labels however they are held: by typed objects or by JSON ones.
pub(crate) trait Labels {
    fn value(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for serde_json::Value {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl<L: Labels> Labels for Option<L> {
    fn value(&self, key: &str) -> Option<&str> {
        self.as_ref()?.value(key)
    }
}

impl<L: Labels> Labels for &L {
    fn value(&self, key: &str) -> Option<&str> {
        (*self).value(key)
    }
}

impl LabelSelector {
    /// The selector that every one of `labels` must equal.
    pub(crate) fn equal(labels: &BTreeMap<String, String>) -> Self {
        let equal = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            test: Test::In(BTreeSet::from([value.clone()])),
        };
        Self(labels.iter().map(equal).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: &impl Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl TryFrom<&meta::LabelSelector> for LabelSelector {
    type Error = Error;

    fn try_from(selector: &meta::LabelSelector) -> Result<Self, Error> {
        let mut requirements = match &selector.match_labels {
            Some(labels) => Self::equal(labels).0,
            None => Vec::new(),
        };
        for expression in selector.match_expressions.iter().flatten() {
            let values: BTreeSet<_> = expression.values.iter().flatten().cloned().collect();
            let test = match (expression.operator.as_str(), values.is_empty()) {
                ("In" | "NotIn", true) => return Err(Error::NoValues),
                ("In", false) => Test::In(values),
                ("NotIn", false) => Test::NotIn(values),
                ("Exists", true) => Test::Exists,
                ("DoesNotExist", true) => Test::Absent,
                ("Exists" | "DoesNotExist", false) => return Err(Error::Values),
                (operator, _) => {
                    return Err(Error::Operator {
                        operator: operator.to_owned(),
                    });
                }
            };
            requirements.push(
                Requirement {
                    key: expression.key.clone(),
                    test,
                }
                .checked()?,
            );
        }
        Ok(Self(requirements))
    }
}

impl Requirement {
    fn matches(&self, labels: &impl Labels) -> bool {
        let value = labels.value(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Above(limit) => number().is_some_and(|number| number > *limit),
            Test::Below(limit) => number().is_some_and(|number| number < *limit),
        }
    }

    fn checked(self) -> Result<Self, Error> {
        if let Err(why) = syntax::qualified_name(&self.key) {
            return Err(Error::Key { key: self.key, why });
        }
        if let Test::In(values) | Test::NotIn(values) = &self.test {
            for value in values {
                syntax::label_value(value).map_err(|why| Error::Value {
                    value: value.clone(),
                    why,
                })?;
            }
        }
        Ok(self)
    }
}

impl FromStr for LabelSelector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Parser { rest: text }.selector()
    }
}

struct Parser<'a> {
    rest: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl<'a> Parser<'a> {
    const SYMBOLS: [&'static str; 9] = ["==", "!=", "=", "!", ",", "(", ")", "<", ">"];

    fn selector(mut self) -> Result<LabelSelector, Error> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(LabelSelector(requirements));
        }
        loop {
            requirements.push(self.requirement()?.checked()?);
            match self.next() {
                Token::End => return Ok(LabelSelector(requirements)),
                Token::Symbol(",") => {}
                other => return Err(other.unexpected("',' or end of string")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let key = match self.next() {
            Token::Symbol("!") => {
                return Ok(Requirement {
                    key: self.word("identifier")?,
                    test: Test::Absent,
                });
            }
            Token::Word(key) => key.to_owned(),
            other => return Err(other.unexpected("!, identifier, or 'end of string'")),
        };
        let test = match self.peek() {
            Token::End | Token::Symbol(",") => Test::Exists,
            _ => self.test()?,
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self) -> Result<Test, Error> {
        match self.next() {
            Token::Symbol("=" | "==") => Ok(Test::In(BTreeSet::from([self.value()]))),
            Token::Symbol("!=") => Ok(Test::NotIn(BTreeSet::from([self.value()]))),
            Token::Symbol(">") => Ok(Test::Above(self.integer()?)),
            Token::Symbol("<") => Ok(Test::Below(self.integer()?)),
            Token::Word("in") => Ok(Test::In(self.values()?)),
            Token::Word("notin") => Ok(Test::NotIn(self.values()?)),
            other => Err(other.unexpected("in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// One value, which may be empty.
    fn value(&mut self) -> String {
        match self.peek() {
            Token::Word(word) => {
                self.next();
                word.to_owned()
            }
            _ => String::new(),
        }
    }

    fn integer(&mut self) -> Result<i64, Error> {
        let value = self.value();
        value.parse().or(Err(Error::NotAnInteger { value }))
    }

    fn values(&mut self) -> Result<BTreeSet<String>, Error> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(other.unexpected("'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value());
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(other.unexpected("',' or ')'")),
            }
        }
    }

    fn word(&mut self, expected: &'static str) -> Result<String, Error> {
        match self.next() {
            Token::Word(word) => Ok(word.to_owned()),
            other => Err(other.unexpected(expected)),
        }
    }

    fn peek(&self) -> Token<'a> {
        Parser { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.is_empty() {
            return Token::End;
        }
        let symbol = Self::SYMBOLS
            .iter()
            .find(|symbol| self.rest.starts_with(**symbol));
        let end = match symbol {
            Some(symbol) => symbol.len(),
            None => self.rest.find(Self::ends_word).unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        if symbol.is_some() {
            Token::Symbol(token)
        } else {
            Token::Word(token)
        }
    }

    fn ends_word(character: char) -> bool {
        character.is_ascii_whitespace() || "=!,()<>".contains(character)
    }
}

impl Token<'_> {
    fn unexpected(self, expected: &'static str) -> Error {
        let found = match self {
            Token::Word(text) | Token::Symbol(text) => text.to_owned(),
            Token::End => String::new(),
        };
        Error::Unexpected { found, expected }
    }
}

impl Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let join = |values: &BTreeSet<String>| Vec::from_iter(values.iter().cloned()).join(",");
        match &self.test {
            Test::Exists => write!(f, "{key}"),
            Test::Absent => write!(f, "!{key}"),
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", join(values)),
            Test::In(values) => write!(f, "{key} in ({})", join(values)),
            Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", join(values)),
            Test::NotIn(values) => write!(f, "{key} notin ({})", join(values)),
            Test::Above(limit) => write!(f, "{key}>{limit}"),
            Test::Below(limit) => write!(f, "{key}<{limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn each_operator_selects_as_documented() {
        let web = labels(&[
            ("app", "web"),
            ("tier", "front"),
            ("weight", "7"),
            ("empty", ""),
        ]);
        let cases = [
            ("", true),
            ("app", true),
            ("!app", false),
            ("missing", false),
            ("!missing", true),
            ("app=web", true),
            ("app == web", true),
            ("app=db", false),
            ("app!=db", true),
            ("missing!=x", true),
            ("app in (web, db)", true),
            ("app in (db)", false),
            ("app notin (db)", true),
            ("missing notin (db)", true),
            ("weight>6", true),
            ("weight>7", false),
            ("weight < 8", true),
            ("app>1", false),
            ("empty=", true),
            ("empty,app=web , tier in (front)", true),
            ("app=web,tier=back", false),
        ];
        for (text, expected) in cases {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!(selector.matches(&web), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_place_named() {
        let refused = |text: &str| text.parse::<LabelSelector>().unwrap_err().to_string();
        assert_eq!(
            refused("a b"),
            "found 'b', expected: in, notin, =, ==, !=, gt, lt"
        );
        assert_eq!(refused("a in x"), "found 'x', expected: '('");
        assert_eq!(refused("a in (x"), "found '', expected: ',' or ')'");
        assert_eq!(
            refused(",a"),
            "found ',', expected: !, identifier, or 'end of string'"
        );
        assert!(refused("a>b").contains("must be an integer"));
        assert!(refused("-a=b").starts_with("invalid label key \"-a\""));
        assert!(refused("a=b=c").starts_with("found '='"));
    }

    #[test]
    fn the_selector_of_a_spec_means_the_same_as_its_string() {
        let spec: meta::LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "canary", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        let selector = LabelSelector::try_from(&spec).unwrap();
        assert_eq!(selector.to_string(), "app=web,tier in (a,b),!canary");
    }

    proptest! {
        #[test]
        fn a_selector_survives_being_written_and_read(selector in any_selector()) {
            let read: LabelSelector = selector.to_string().parse().unwrap();
            prop_assert_eq!(read, selector);
        }

        #[test]
        fn a_test_and_its_negation_never_agree(
            key in "[a-c]", value in "[a-c]", labels in any_labels(),
        ) {
            let parse = |text: String| text.parse::<LabelSelector>().unwrap();
            let equal = parse(format!("{key}={value}")).matches(&labels);
            let differs = parse(format!("{key}!={value}")).matches(&labels);
            prop_assert_ne!(equal, differs);
            let exists = parse(key.clone()).matches(&labels);
            let absent = parse(format!("!{key}")).matches(&labels);
            prop_assert_ne!(exists, absent);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-c=!,()<> in\u{e9}-]{0,24}") {
            let _ = text.parse::<LabelSelector>();
        }
    }

    fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-c]", "[a-c]", 0..3)
    }

    fn any_selector() -> impl Strategy<Value = LabelSelector> {
        let key = "([a-z]{1,5}/)?[A-Za-z]([-A-Za-z0-9_.]{0,4}[A-Za-z0-9])?";
        let values = || proptest::collection::btree_set("[a-z0-9]{0,3}", 1..4);
        let test = prop_oneof![
            Just(Test::Exists),
            Just(Test::Absent),
            values().prop_map(Test::In),
            values().prop_map(Test::NotIn),
            any::<i64>().prop_map(Test::Above),
            any::<i64>().prop_map(Test::Below),
        ];
        let keyword = |key: &String| key != "in" && key != "notin";
        let requirement = (key.prop_filter("a keyword", keyword), test)
            .prop_map(|(key, test)| Requirement { key, test });
        proptest::collection::vec(requirement, 0..4).prop_map(LabelSelector)
    }
}
