//! From protocol buffers to JSON: newer versions of `kubectl create` send built-in kinds so.
//!
//! Go writes fields that are not set as empty strings and zeros, wherever they are not pointers. Empty
//! strings are dropped here; of the numbers, those are which mean "not set" to the defaults.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Scalar, Struct, Type, named};

/// What `runtime.Unknown`, the envelope, begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may lie in each other.
const DEPTH_LIMIT: usize = 64;

/// Why a body cannot be read as protocol buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the body does not begin as an object in protocol buffers does")]
    Magic,
    #[error("the body ends in the middle of a field")]
    Truncated,
    #[error("field {number} has another wire type than its type in the schema")]
    WireType { number: u32 },
    #[error("the body nests deeper than {DEPTH_LIMIT} messages")]
    TooDeep,
}

/// Reads an object of the type that `shape_of` names for its `apiVersion` and `kind`; an object of an
/// unknown kind is read as these two alone.
pub(crate) fn decode(
    body: &[u8],
    shape_of: impl FnOnce(&str, &str) -> Option<&'static Struct>,
) -> Result<Value, Error> {
    let envelope = body.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let mut type_meta: &[u8] = &[];
    let mut raw: &[u8] = &[];
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(bytes)) => type_meta = bytes,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (mut api_version, mut kind) = (String::new(), String::new());
    for field in Fields(type_meta) {
        match field? {
            (1, Wire::Bytes(bytes)) => api_version = text(bytes),
            (2, Wire::Bytes(bytes)) => kind = text(bytes),
            _ => {}
        }
    }
    let mut object = match shape_of(&api_version, &kind) {
        Some(shape) => structure(raw, shape, &[], 0)?,
        None => Map::new(),
    };
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in the order in which they were written.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let field = self.read();
            if field.is_err() {
                self.0 = &[];
            }
            field
        })
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u32, Wire<'a>), Error> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).or(Err(Error::Truncated))?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(u64::from_le_bytes(
                    bytes.try_into().or(Err(Error::Truncated))?,
                ))
            }
            2 => {
                let length = usize::try_from(self.varint()?).or(Err(Error::Truncated))?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Error::WireType { number }),
        };
        Ok((number, wire))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Error::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The fields of `shape` that stand in `bytes`, which is the message at `prefix` within it.
fn structure(
    bytes: &[u8],
    shape: &'static Struct,
    prefix: &[u32],
    depth: usize,
) -> Result<Map<String, Value>, Error> {
    if depth > DEPTH_LIMIT {
        return Err(Error::TooDeep);
    }
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let place = [prefix, &[number]].concat();
        let known = shape.fields.iter().find(|(_, field)| field.number == place);
        let Some((name, field)) = known else {
            let inline = shape
                .fields
                .values()
                .any(|field| field.number.len() > place.len() && field.number.starts_with(&place));
            if let (true, Wire::Bytes(bytes)) = (inline, wire) {
                object.extend(structure(bytes, shape, &place, depth + 1)?);
            }
            continue;
        };
        let repeated = match &field.ty {
            Type::List(item) => Some(item),
            _ => None,
        };
        let ty = repeated.map_or(&field.ty, |item| item);
        if let Type::Map(entry) = ty {
            let (key, value) = map_entry(number, &wire, entry, depth)?;
            let map = object
                .entry(*name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
            continue;
        }
        let value = read(number, &wire, ty, depth)?;
        if repeated.is_some() {
            let list = object
                .entry(*name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        } else if !is_unset(shape.name, name, &value) {
            object.insert((*name).to_owned(), value);
        }
    }
    Ok(object)
}

fn map_entry(
    number: u32,
    wire: &Wire<'_>,
    ty: &Type,
    depth: usize,
) -> Result<(String, Value), Error> {
    let Wire::Bytes(entry) = wire else {
        return Err(Error::WireType { number });
    };
    let (mut key, mut value) = (String::new(), empty(ty));
    for field in Fields(entry) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes),
            // A list as a map's value is a message of its own, with the items in its first field.
            (2, Wire::Bytes(items)) if matches!(ty, Type::List(_)) => {
                let Type::List(item) = ty else { continue };
                let items = Fields(items).map(|field| {
                    let (number, wire) = field?;
                    read(number, &wire, item, depth + 1)
                });
                value = Value::Array(items.collect::<Result<_, _>>()?);
            }
            (2, wire) => value = read(2, &wire, ty, depth + 1)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn read(number: u32, wire: &Wire<'_>, ty: &Type, depth: usize) -> Result<Value, Error> {
    let scalar = match ty {
        Type::Scalar(scalar) => *scalar,
        Type::Struct(name) => {
            let Wire::Bytes(bytes) = wire else {
                return Err(Error::WireType { number });
            };
            return structure(bytes, named(name), &[], depth + 1).map(Value::Object);
        }
        Type::List(_) | Type::Map(_) => return Err(Error::WireType { number }),
    };
    let value = match (scalar, wire) {
        (Scalar::Bool, Wire::Varint(value)) => (*value != 0).into(),
        (Scalar::Int32 | Scalar::Int64, Wire::Varint(value)) => value.cast_signed().into(),
        (Scalar::Double, Wire::Fixed64(bits)) => f64::from_bits(*bits).into(),
        (Scalar::String, Wire::Bytes(bytes)) => text(bytes).into(),
        (Scalar::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Scalar::Time | Scalar::MicroTime, Wire::Bytes(bytes)) => time(bytes)?,
        (Scalar::Quantity, Wire::Bytes(bytes)) => match Fields(bytes).next().transpose()? {
            Some((1, Wire::Bytes(quantity))) => text(quantity).into(),
            _ => "0".into(),
        },
        (Scalar::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Scalar::Any, Wire::Bytes(bytes)) => match Fields(bytes).next().transpose()? {
            Some((1, Wire::Bytes(json))) => serde_json::from_slice(json).unwrap_or_default(),
            _ => Value::Null,
        },
        _ => return Err(Error::WireType { number }),
    };
    Ok(value)
}

/// Null for the zero time, which means that none is set.
fn time(bytes: &[u8]) -> Result<Value, Error> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanoseconds = value.cast_signed(),
            _ => {}
        }
    }
    if seconds == 0 && nanoseconds == 0 {
        return Ok(Value::Null);
    }
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
    let time = Timestamp::new(seconds, nanoseconds).ok();
    Ok(time.map_or(Value::Null, |time| time.to_string().into()))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(value)) => is_text = value == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => string = text(bytes),
            _ => {}
        }
    }
    Ok(if is_text {
        string.into()
    } else {
        number.into()
    })
}

fn empty(ty: &Type) -> Value {
    match ty {
        Type::Scalar(Scalar::Bool) => false.into(),
        Type::Scalar(Scalar::Int32 | Scalar::Int64) => 0.into(),
        Type::Scalar(_) => "".into(),
        Type::List(_) => Value::Array(Vec::new()),
        Type::Struct(_) | Type::Map(_) => Value::Object(Map::new()),
    }
}

/// Whether Go wrote the value only because the field cannot be absent there.
fn is_unset(owner: &str, name: &str, value: &Value) -> bool {
    const ZERO_IS_UNSET: [&str; 8] = [
        "count",
        "generation",
        "healthCheckNodePort",
        "hostPort",
        "minReadySeconds",
        "nodePort",
        "targetPort",
        "observedGeneration",
    ];
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) if number.as_i64() == Some(0) => {
            owner == "Probe" || ZERO_IS_UNSET.contains(&name)
        }
        _ => false,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let tag = u16::from(number) << 3 | 2;
        let low = u8::try_from(tag & 0x7f).unwrap() | 0x80;
        let high = u8::try_from(tag >> 7).unwrap();
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128);
        [&[low, high, length], content].concat()
    }

    fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    fn decoded(kind: &'static str, raw: &[u8]) -> Value {
        decode(&enveloped("v1", kind, raw), |_, kind| {
            Some(named(kind_name(kind)))
        })
        .unwrap()
    }

    fn kind_name(kind: &str) -> &'static str {
        super::super::all()
            .find(|shape| shape.name == kind)
            .unwrap()
            .name
    }

    #[test]
    fn a_config_map_is_read_with_its_map() {
        let metadata = [field(1, b"c"), field(2, b""), field(3, b"default")].concat();
        let entry = [field(1, b"key"), field(2, b"value")].concat();
        let raw = [field(1, &metadata), field(2, &entry)].concat();
        assert_eq!(
            decoded("ConfigMap", &raw),
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "c", "namespace": "default"},
                "data": {"key": "value"},
            })
        );
    }

    #[test]
    fn what_json_has_inline_is_found_one_message_deeper() {
        let source = field(19, &field(1, &field(1, b"settings")));
        let volume = [field(1, b"v"), field(2, &source)].concat();
        let raw = field(2, &field(1, &volume));
        let volumes = &decoded("Pod", &raw)["spec"]["volumes"];
        assert_eq!(
            volumes,
            &json!([{"name": "v", "configMap": {"name": "settings"}}])
        );
    }

    #[test]
    fn zeros_are_kept_where_they_mean_something() {
        let replicas = [1 << 3, 0];
        let raw = field(2, &replicas);
        assert_eq!(decoded("Deployment", &raw)["spec"], json!({"replicas": 0}));
    }

    #[test]
    fn a_body_that_is_cut_off_is_refused() {
        let body = enveloped("v1", "ConfigMap", &field(1, &field(1, b"c")));
        for end in 5..body.len() {
            let cut = decode(&body[..end], |_, kind| Some(named(kind_name(kind))));
            assert!(
                cut.is_err() || cut.unwrap()["metadata"].is_null(),
                "cut at {end}"
            );
        }
        assert_eq!(decode(b"{}", |_, _| None), Err(Error::Magic));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let body = [MAGIC, &bytes].concat();
            let _ = decode(&body, |_, _| Some(named("Pod")));
            let _ = structure(&bytes, named("Pod"), &[], 0);
        }
    }
}
