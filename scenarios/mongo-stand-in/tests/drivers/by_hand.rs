//! What drivers rely on and do not show: answers byte by byte, and what is done with bytes that nobody should send.

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use inroads_mongo_stand_in::wire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::set::{LIMIT, Set, Wire, until};

/// A retryable insert of one document.
fn insert(number: i64) -> Document {
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![7; 16],
    };
    doc! {
        "insert": "things",
        "$db": "test",
        "documents": [{ "text": "no _id, so that a second insert is a second document" }],
        "lsid": { "id": id },
        "txnNumber": number,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_retried_is_done_once_by_the_next_primary_too() {
    let set = Set::start().await;
    let first = set.primary().await;
    let count = doc! { "count": "things", "$db": "test" };
    for _ in 0..2 {
        let answer = set.ask(first, insert(1)).await;
        assert_eq!(answer.get_i32("n").unwrap(), 1, "{answer}");
    }
    let down = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 2 };
    assert_eq!(set.ask(first, down).await.get_f64("ok").unwrap(), 1.0);
    let next = until("another is primary", async || {
        let primary = set.primary().await;
        (primary != first).then_some(primary)
    })
    .await;
    let refused = set.ask(first, insert(1)).await;
    let labels = refused.get_array("errorLabels").unwrap();
    assert_eq!(labels, &["RetryableWriteError".into()], "{refused}");
    assert_eq!(refused.get_i32("code").unwrap(), 10_107);
    assert!(refused.contains_key("topologyVersion"));
    let retried = set.ask(next, insert(1)).await;
    assert_eq!(retried.get_i32("n").unwrap(), 1, "{retried}");
    assert_eq!(set.ask(next, count.clone()).await.get_i64("n").unwrap(), 1);
    set.ask(next, insert(2)).await;
    assert_eq!(set.ask(next, count).await.get_i64("n").unwrap(), 2);
    let old = set.ask(next, insert(1)).await;
    assert_eq!(old.get_i32("code").unwrap(), 225, "{old}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_codes_that_drivers_act_upon() {
    let set = Set::start().await;
    let primary = set.primary().await;
    let secondary = (primary + 1) % 3;
    let cases = [
        (secondary, doc! { "find": "c", "$db": "test" }, 13_435),
        (
            secondary,
            doc! { "insert": "c", "$db": "test", "documents": [{}] },
            10_107,
        ),
        (primary, doc! { "noSuchCommand": 1 }, 59),
        (primary, doc! { "commitTransaction": 1 }, 251),
        (primary, doc! { "find": "c", "startTransaction": true }, 20),
        (
            primary,
            doc! { "find": "c", "$db": "test", "filter": { "$where": "1" } },
            2,
        ),
        (primary, doc! { "find": "", "$db": "test" }, 73),
        (primary, doc! { "find": "c", "$db": "te$t" }, 73),
        (
            primary,
            doc! { "getMore": 99i64, "collection": "c", "$db": "test" },
            43,
        ),
        (primary, doc! { "drop": "none", "$db": "test" }, 26),
        (
            primary,
            doc! { "aggregate": "c", "$db": "test", "pipeline": [{ "$out": "d" }] },
            40_324,
        ),
        (
            primary,
            doc! { "insert": "c", "$db": "test", "documents": [{}], "writeConcern": { "w": 4 } },
            100,
        ),
    ];
    for (member, command, code) in cases {
        let answer = set.ask(member, command.clone()).await;
        assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{command}: {answer}");
        assert_eq!(answer.get_i32("code").unwrap(), code, "{command}: {answer}");
    }
    let allowed = doc! { "find": "c", "$db": "test", "$readPreference": { "mode": "secondary" } };
    assert_eq!(
        set.ask(secondary, allowed).await.get_f64("ok").unwrap(),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_waits_is_answered_again_at_each_change() {
    let set = Set::start().await;
    let primary = set.primary().await;
    let mut wire = Wire::connect(set.addresses[primary]).await.unwrap();
    wire.send(&doc! { "hello": 1 }).await.unwrap();
    let (now, _) = wire.receive().await.unwrap();
    let version = now.get_document("topologyVersion").unwrap();
    let waits = doc! {
        "hello": 1,
        "topologyVersion": version.clone(),
        "maxAwaitTimeMS": 25_000,
        "$db": "admin",
    };
    let mut bytes = wire::write(2, 0, &waits, false).unwrap();
    // Exhaust allowed: bit 16 of the flags behind the header.
    bytes[wire::HEADER + 2] |= 1;
    wire.0.write_all(&bytes).await.unwrap();
    let early = timeout(Duration::from_millis(300), wire.receive()).await;
    assert!(early.is_err(), "nothing has changed: {early:?}");
    let down = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 2 };
    set.ask(primary, down).await;
    let (told, more) = wire.receive().await.unwrap();
    assert!(more, "another answer follows");
    assert!(!told.get_bool("isWritablePrimary").unwrap(), "{told}");
    let (told, more) = wire.receive().await.unwrap();
    assert!(more);
    assert!(told.get_str("primary").is_ok(), "the next one: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_says_hello_by_a_query() {
    let set = Set::start().await;
    let mut wire = Wire::connect(set.addresses[0]).await.unwrap();
    for (command, ok) in [
        (doc! { "isMaster": 1, "helloOk": true }, 1.0),
        (doc! { "find": "c" }, 0.0),
    ] {
        let bytes = wire::write_query(1, "admin.$cmd", &command).unwrap();
        wire.0.write_all(&bytes).await.unwrap();
        let (answer, _) = wire.receive().await.unwrap();
        assert_eq!(answer.get_f64("ok").unwrap(), ok, "{answer}");
        if ok > 0.0 {
            assert!(answer.get_bool("ismaster").is_ok() && answer.get_bool("helloOk").unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_end_their_connection_and_nothing_else() {
    let set = Set::start().await;
    let good = wire::write(1, 0, &doc! { "ping": 1, "$db": "admin" }, false).unwrap();
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let mut nested = vec![5, 0, 0, 0, 0];
    for _ in 0..20_000 {
        let length = i32::try_from(nested.len() + 8).unwrap().to_le_bytes();
        nested = [&length[..], &[4, b'0', 0], &nested, &[0]].concat();
    }
    let mut deep = changed(0, &i32::try_from(21 + nested.len()).unwrap().to_le_bytes());
    deep.truncate(21);
    deep.extend(nested);
    let cases = [
        b"GET / HTTP/1.1\r\nHost: mongo-0\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![0; 64],
        changed(0, &i32::MAX.to_le_bytes()),
        changed(0, &3i32.to_le_bytes()),
        changed(12, &2012i32.to_le_bytes()),
        changed(16, &1u32.to_le_bytes()),
        changed(21, &i32::MAX.to_le_bytes()),
        changed(25, &[0x99]),
        deep,
    ];
    for bytes in cases {
        let mut wire = Wire::connect(set.addresses[0]).await.unwrap();
        // It may close before all is sent.
        drop(wire.0.write_all(&bytes).await);
        drop(wire.0.shutdown().await);
        let mut rest = Vec::new();
        let ended = timeout(LIMIT, wire.0.read_to_end(&mut rest)).await;
        drop(ended.expect("it closes the connection"));
        assert!(rest.is_empty(), "no answer to what is no message");
    }
    let pong = set.ask(0, doc! { "ping": 1 }).await;
    assert_eq!(pong.get_f64("ok").unwrap(), 1.0);
}
