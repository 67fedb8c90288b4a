//! Sets of fields, as `fieldsV1` writes them: `{"f:spec": {"f:replicas": {}}}`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A tree of path elements, each written as in `fieldsV1`: `f:NAME` for a field or a map's entry,
/// `k:{KEYS}` for an item told apart by keys, `v:VALUE` for an item of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// The node itself belongs to the set, not only what is below it.
    member: bool,
    children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    pub(crate) fn leaf() -> Self {
        Self {
            member: true,
            children: BTreeMap::new(),
        }
    }

    pub(crate) fn of(children: BTreeMap<String, FieldSet>) -> Self {
        Self {
            member: false,
            children,
        }
    }

    /// The same set, and the node itself.
    pub(crate) fn with_itself(mut self) -> Self {
        self.member = true;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = (&str, &FieldSet)> {
        self.children
            .iter()
            .map(|(element, below)| (element.as_str(), below))
    }

    /// What is below `element`, if there is anything.
    pub(crate) fn below(&self, element: &str) -> Option<&FieldSet> {
        self.children.get(element).filter(|below| !below.is_empty())
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut children = self.children.clone();
        for (element, below) in &other.children {
            let joined = children
                .get(element)
                .map_or_else(|| below.clone(), |own| own.union(below));
            children.insert(element.clone(), joined);
        }
        Self {
            member: self.member || other.member,
            children,
        }
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        let kept = |(element, below): (&String, &Self)| {
            let below = match other.children.get(element) {
                Some(lost) => below.difference(lost),
                None => below.clone(),
            };
            (!below.is_empty()).then(|| (element.clone(), below))
        };
        let children = self.children.iter().filter_map(kept).collect();
        Self {
            member: self.member && !other.member,
            children,
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let shared = |(element, below): (&String, &Self)| {
            let below = below.intersection(other.children.get(element)?);
            (!below.is_empty()).then(|| (element.clone(), below))
        };
        let children = self.children.iter().filter_map(shared).collect();
        Self {
            member: self.member && other.member,
            children,
        }
    }

    /// The paths of all members: `.spec.containers[name="a"].image`.
    pub(crate) fn leaves(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_leaves(String::new(), &mut paths);
        paths
    }

    fn collect_leaves(&self, path: String, paths: &mut Vec<String>) {
        for (element, below) in &self.children {
            below.collect_leaves(format!("{path}{}", display(element)), paths);
        }
        if self.member {
            paths.push(path);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.children.is_empty() {
            object.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, below) in &self.children {
            object.insert(element.clone(), below.to_json());
        }
        Value::Object(object)
    }

    /// Reads `fieldsV1`; the root is never a member of its own set.
    pub(crate) fn from_json(json: &Value) -> Self {
        let mut read = Self::read(json);
        read.member = false;
        read
    }

    fn read(json: &Value) -> Self {
        let Value::Object(entries) = json else {
            return Self::default();
        };
        let below = entries.iter().filter(|(element, _)| *element != ".");
        let children = below
            .map(|(element, json)| (element.clone(), Self::read(json)))
            .collect();
        Self {
            member: entries.is_empty() || entries.contains_key("."),
            children,
        }
    }
}

fn display(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => element.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_set_is_written_as_kubernetes_writes_it() {
        let json =
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}});
        let set = FieldSet::from_json(&json);
        assert_eq!(set.to_json(), json);
        assert_eq!(
            set.leaves(),
            [
                ".spec.containers[name=\"a\"].image",
                ".spec.containers[name=\"a\"]"
            ]
        );
    }

    proptest! {
        #[test]
        fn the_algebra_of_sets_holds(a in any_set(), b in any_set()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&a).is_empty());
        }

        #[test]
        fn a_set_survives_being_written_and_read(set in any_set()) {
            prop_assert_eq!(FieldSet::from_json(&set.to_json()), set);
        }
    }

    /// Canonical sets: no node that is neither a member nor has one below it.
    fn any_set() -> impl Strategy<Value = FieldSet> {
        let paths = proptest::collection::vec(proptest::collection::vec("f:[a-c]", 1..4), 0..5);
        paths.prop_map(|paths| {
            let path = |path: Vec<String>| {
                path.into_iter()
                    .rev()
                    .fold(FieldSet::leaf(), |below, element| {
                        FieldSet::of(BTreeMap::from([(element, below)]))
                    })
            };
            paths
                .into_iter()
                .map(path)
                .fold(FieldSet::default(), |all, one| all.union(&one))
        })
    }
}
