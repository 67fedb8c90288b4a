//! What is read is what was written, and nothing else is read.

use bson::{Bson, doc, oid::ObjectId};
use proptest::prelude::*;

use super::*;

/// `OP_MSG` with a sequence and, where asked for, a checksum: what drivers send for an insert.
fn with_sequence(body: &Document, name: &str, documents: &[Document], sum: bool) -> Vec<u8> {
    let mut bytes = header(7, 0, OP_MSG);
    bytes.extend(u32::from(sum).to_le_bytes());
    bytes.push(0);
    bytes.extend(body.to_vec().unwrap());
    bytes.push(1);
    let mut section = name.as_bytes().to_vec();
    section.push(0);
    for document in documents {
        section.extend(document.to_vec().unwrap());
    }
    bytes.extend(u32::try_from(section.len() + 4).unwrap().to_le_bytes());
    bytes.extend(section);
    let length = bytes.len() + if sum { 4 } else { 0 };
    bytes[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    if sum {
        let sum = crc32c(&bytes);
        bytes.extend(sum.to_le_bytes());
    }
    bytes
}

/// The document of an `OP_MSG`.
fn document_of(message: Message) -> Document {
    match message.body {
        Body::Msg { document, .. } => document,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sequences_are_arrays_of_the_command() {
    let body = doc! { "insert": "c", "$db": "test" };
    let documents = [doc! { "_id": 1 }, doc! { "_id": 2 }];
    for sum in [false, true] {
        let bytes = with_sequence(&body, "documents", &documents, sum);
        let read = document_of(read(&bytes).unwrap());
        let expected =
            doc! { "insert": "c", "$db": "test", "documents": [{ "_id": 1 }, { "_id": 2 }] };
        assert_eq!(read, expected);
    }
}

#[test]
fn a_sequence_of_more_documents_than_a_command_takes_is_refused() {
    let body = doc! { "insert": "c" };
    let documents = vec![doc! {}; MOST_DOCUMENTS + 1];
    assert!(read(&with_sequence(&body, "documents", &documents[1..], false)).is_ok());
    let refused = read(&with_sequence(&body, "documents", &documents, false));
    assert!(
        matches!(refused, Err(WireError::Sections(_))),
        "{refused:?}"
    );
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut bytes = with_sequence(&doc! { "insert": "c" }, "documents", &[doc! {}], true);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(read(&bytes), Err(WireError::Checksum));
}

#[test]
fn a_query_of_old_clients_and_its_reply_are_read() {
    let hello = doc! { "isMaster": 1 };
    let query = read(&write_query(3, "admin.$cmd", &hello).unwrap()).unwrap();
    let expected = Body::Query {
        namespace: "admin.$cmd".to_owned(),
        document: hello,
    };
    assert_eq!((query.id, query.body), (3, expected));
    let answer = doc! { "ok": 1.0 };
    let reply = read(&write_reply(4, 3, &answer).unwrap()).unwrap();
    assert_eq!(
        (reply.answers, reply.body),
        (3, Body::Reply { document: answer })
    );
}

#[test]
fn what_must_be_refused_is_refused() {
    let good = write(1, 0, &doc! { "ping": 1 }, false).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        read(&changed).unwrap_err()
    };
    assert_eq!(with(12, &2012i32.to_le_bytes()), WireError::Compressed);
    assert_eq!(with(12, &99i32.to_le_bytes()), WireError::OpCode(99));
    assert_eq!(with(16, &4u32.to_le_bytes()), WireError::Flags(4));
    assert!(matches!(with(20, &[9]), WireError::Sections(_)));
    assert_eq!(
        with(21, &i32::MAX.to_le_bytes()),
        WireError::Truncated("a document")
    );
    for wrong in [0, 15, -1, i32::MIN, i32::MAX] {
        let expected = WireError::Length(wrong);
        assert_eq!(length(wrong.to_le_bytes()), Err(expected.clone()));
        assert_eq!(with(0, &wrong.to_le_bytes()), expected);
    }
    // Unknown flags that need not be known are no reason.
    let mut optional = good.clone();
    optional[18..20].copy_from_slice(&[0xfe, 0xff]);
    assert!(read(&optional).is_ok());
    assert!(read(&good).is_ok());
}

#[test]
fn a_document_nested_without_end_is_refused_and_does_not_use_up_the_stack() {
    let nested = |levels: usize| {
        let mut bytes = vec![5, 0, 0, 0, 0];
        for _ in 1..levels {
            let mut outer = i32::try_from(bytes.len() + 8)
                .unwrap()
                .to_le_bytes()
                .to_vec();
            outer.extend([0x03, b'a', 0]);
            outer.extend(&bytes);
            outer.push(0);
            bytes = outer;
        }
        bytes
    };
    assert_eq!(check(&nested(100)), Ok(()));
    assert_eq!(check(&nested(101)), Err(Malformed::Depth));
    assert_eq!(check(&nested(5_000)), Err(Malformed::Depth));
}

/// Values of many types, some within each other.
fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        (-1e9..1e9f64).prop_map(Bson::Double),
        any::<bool>().prop_map(Bson::Boolean),
        "[a-zé]{0,12}".prop_map(Bson::String),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(ObjectId::from_bytes(bytes))),
        any::<i64>().prop_map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Bson::Binary(
            bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes
            }
        )),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            proptest::collection::vec(("[a-z]{1,6}", inner), 0..4)
                .prop_map(|pairs| Bson::Document(pairs.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Document> {
    proptest::collection::vec(("[a-z]{1,8}", value()), 0..6)
        .prop_map(|pairs| pairs.into_iter().collect())
}

proptest! {
    #[test]
    fn what_is_written_is_read(document in document(), id: i32, answers: i32, more: bool) {
        let read = read(&write(id, answers, &document, more).unwrap()).unwrap();
        let expected = Message {
            id,
            answers,
            body: Body::Msg { document, more_to_come: more, exhaust_allowed: false },
        };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn sequences_survive_with_and_without_a_checksum(
        documents in proptest::collection::vec(document(), 0..4),
        sum: bool,
    ) {
        let bytes = with_sequence(&doc! { "insert": "c" }, "documents", &documents, sum);
        let read = document_of(read(&bytes).unwrap());
        let expected: Vec<Bson> = documents.into_iter().map(Bson::Document).collect();
        prop_assert_eq!(read.get_array("documents").unwrap(), &expected);
    }

    #[test]
    fn a_message_cut_short_is_refused(document in document(), cut in 1usize..64) {
        let mut bytes = write(1, 0, &document, false).unwrap();
        bytes.truncate(bytes.len().saturating_sub(cut));
        prop_assert!(read(&bytes).is_err());
        if let Ok(length) = i32::try_from(bytes.len()) && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn a_changed_byte_never_panics(document in document(), at: prop::sample::Index, byte: u8) {
        let mut bytes = write(1, 0, &document, false).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // Whatever it is now, it is told; what is read can be written again.
        if let Ok(Message { body: Body::Msg { document, .. }, .. }) = read(&bytes) {
            prop_assert!(write(1, 0, &document, false).is_ok());
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), op in prop_oneof![Just(1), Just(2004), Just(2012), Just(2013)]) {
        let mut message = header(0, 0, op);
        message.extend(&bytes);
        let length = i32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&length.to_le_bytes());
        drop(read(&message));
        drop(read(&bytes));
    }
}
