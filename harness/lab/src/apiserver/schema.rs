//! The shapes of the API's objects: which fields exist, of what type, and how lists are merged.
//!
//! Read from one table, `schema/kubernetes.txt`, which decoding, strategic merge, server-side apply
//! and the OpenAPI documents share. What values *mean* is not told here: see `kinds`.

mod decode;
mod protobuf;

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

pub(crate) use decode::decode;
pub(crate) use protobuf::decode as decode_protobuf;

/// An object's type.
#[derive(Debug)]
pub(crate) struct Struct {
    /// As in the table: unique, sometimes with a group in front (`events.Event`).
    pub(crate) name: &'static str,
    /// Server-side apply owns it as a whole.
    pub(crate) atomic: bool,
    pub(crate) fields: BTreeMap<&'static str, Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) required: bool,
    pub(crate) ty: Type,
    pub(crate) topology: Topology,
    /// The key by which strategic merge matches the list's items.
    pub(crate) merge_key: Option<&'static str>,
    /// Strategic merge joins the list's scalars.
    pub(crate) merge_set: bool,
    /// Strategic merge honours `$retainKeys`.
    pub(crate) retain_keys: bool,
    /// Where it stands in protocol buffers: its number, after that of the message it is in, if JSON has
    /// that message's fields inline.
    pub(crate) number: Vec<u32>,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Type {
    Scalar(Scalar),
    Struct(&'static str),
    List(Box<Type>),
    Map(Box<Type>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// In base64.
    Bytes,
    /// RFC 3339.
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON.
    Any,
}

/// How server-side apply divides a list or a map among its owners.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// A list: as a whole. A map or a struct: field by field.
    Default,
    Atomic,
    Set,
    /// A list of structs that these fields tell apart, each with the value it has when left out.
    Map(Vec<(&'static str, Option<&'static str>)>),
}

/// The type of that name. The table is part of the program, so an unknown name is a defect in it.
pub(crate) fn named(name: &str) -> &'static Struct {
    TABLE
        .get(name)
        .unwrap_or_else(|| panic!("the table of types lacks {name}"))
}

/// All types.
pub(crate) fn all() -> impl Iterator<Item = &'static Struct> {
    TABLE.values()
}

static TABLE: LazyLock<HashMap<&'static str, Struct>> =
    LazyLock::new(|| parse(include_str!("schema/kubernetes.txt")));

fn parse(table: &'static str) -> HashMap<&'static str, Struct> {
    let blocks = table.split("\n\n").filter(|block| !block.starts_with('#'));
    blocks
        .filter_map(parse_struct)
        .map(|parsed| (parsed.name, parsed))
        .collect()
}

fn parse_struct(block: &'static str) -> Option<Struct> {
    let mut lines = block.trim().lines();
    let mut head = lines.next()?.split_whitespace();
    let name = head.next()?;
    Some(Struct {
        name,
        atomic: head.next() == Some("atomic"),
        fields: lines.map(parse_field).collect(),
    })
}

fn parse_field(line: &'static str) -> (&'static str, Field) {
    let mut words = line.split_whitespace();
    let (Some(name), Some(ty)) = (words.next(), words.next()) else {
        panic!("the table of types has a field without a type: {line:?}");
    };
    let mut field = Field {
        required: name.ends_with('!'),
        ty: parse_type(ty),
        topology: Topology::Default,
        merge_key: None,
        merge_set: false,
        retain_keys: false,
        number: Vec::new(),
    };
    for word in words {
        if let Some(number) = word.strip_prefix('#') {
            field.number = number
                .split('.')
                .filter_map(|part| part.parse().ok())
                .collect();
            continue;
        }
        match word.split_once('=').unwrap_or((word, "")) {
            ("atomic", _) => field.topology = Topology::Atomic,
            ("set", _) => (field.topology, field.merge_set) = (Topology::Set, true),
            ("replace", _) => field.merge_set = false,
            ("map", keys) => {
                let keys = keys.split(',').map(|key| match key.split_once(':') {
                    Some((key, default)) => (key, Some(default)),
                    None => (key, None),
                });
                let keys: Vec<_> = keys.collect();
                field.merge_key = keys.first().map(|(key, _)| *key);
                field.topology = Topology::Map(keys);
            }
            ("merge", key) => field.merge_key = Some(key),
            ("retain-keys", _) => field.retain_keys = true,
            _ => panic!("the table of types has an unknown word: {line:?}"),
        }
    }
    (name.trim_end_matches('!'), field)
}

fn parse_type(text: &'static str) -> Type {
    let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    if let Some(item) = inside('[', ']') {
        return Type::List(Box::new(parse_type(item)));
    }
    if let Some(value) = inside('{', '}') {
        return Type::Map(Box::new(parse_type(value)));
    }
    match SCALARS.iter().find(|(name, _)| *name == text) {
        Some((_, scalar)) => Type::Scalar(*scalar),
        None => Type::Struct(text),
    }
}

const SCALARS: [(&str, Scalar); 11] = [
    ("bool", Scalar::Bool),
    ("int32", Scalar::Int32),
    ("int64", Scalar::Int64),
    ("double", Scalar::Double),
    ("string", Scalar::String),
    ("bytes", Scalar::Bytes),
    ("time", Scalar::Time),
    ("microtime", Scalar::MicroTime),
    ("quantity", Scalar::Quantity),
    ("int-or-string", Scalar::IntOrString),
    ("any", Scalar::Any),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::registry;

    #[test]
    fn every_type_that_the_table_mentions_is_in_it() {
        fn check(ty: &Type) {
            match ty {
                Type::Scalar(_) => {}
                Type::Struct(name) => assert_eq!(named(name).name, *name),
                Type::List(inner) | Type::Map(inner) => check(inner),
            }
        }
        let mut fields = 0;
        for field in all().flat_map(|parsed| parsed.fields.values()) {
            check(&field.ty);
            fields += 1;
        }
        assert!(fields > 1000, "{fields} fields");
        for (name, field) in all().flat_map(|parsed| &parsed.fields) {
            let envelope = matches!(*name, "apiVersion" | "kind");
            assert!(envelope || !field.number.is_empty(), "{name} has no number");
        }
        for resource in registry::ALL {
            assert!(
                named(resource.schema).fields.contains_key("apiVersion"),
                "{}",
                resource.kind
            );
        }
    }

    #[test]
    fn the_lists_that_people_merge_have_their_keys() {
        let field = |name: &str, field: &str| &named(name).fields[field];
        assert_eq!(
            field("PodSpec", "containers").topology,
            Topology::Map(vec![("name", None)])
        );
        assert!(field("PodSpec", "volumes").retain_keys);
        let ports = field("Container", "ports");
        let keys = vec![("containerPort", None), ("protocol", Some("TCP"))];
        assert_eq!(ports.topology, Topology::Map(keys));
        assert_eq!(ports.merge_key, Some("containerPort"));
        assert_eq!(field("PodSpec", "tolerations").topology, Topology::Default);
        assert!(field("ObjectMeta", "finalizers").merge_set);
        assert!(!field("Endpoint", "addresses").merge_set);
        assert_eq!(field("ServiceSpec", "selector").topology, Topology::Atomic);
    }
}
