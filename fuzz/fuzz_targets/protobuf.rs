//! Any bytes as an object in protocol buffers, as clients send them to the lab's API server.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inroads_lab::fuzzing::protobuf(bytes));
