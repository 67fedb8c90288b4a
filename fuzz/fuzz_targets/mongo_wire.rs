//! Any bytes as a message of MongoDB's protocol: they are read or refused, and what is read can be written again.

#![no_main]

use inroads_mongo_stand_in::wire::{self, Body};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    // The length in front is seldom right by chance: with the right one the rest is reached.
    if bytes.len() >= wire::HEADER {
        let mut whole = bytes.to_vec();
        let length = i32::try_from(whole.len()).expect("inputs are small");
        whole[..4].copy_from_slice(&length.to_le_bytes());
        look(&whole);
    }
});

fn look(bytes: &[u8]) {
    let Ok(message) = wire::read(bytes) else {
        return;
    };
    if let Body::Msg {
        document,
        more_to_come,
        ..
    } = &message.body
    {
        let written = wire::write(message.id, message.answers, document, *more_to_come);
        let again = wire::read(&written.expect("it was read")).expect("it was written");
        // Not compared as values: NaN is not equal to itself.
        assert_eq!(again.id, message.id);
    }
}
