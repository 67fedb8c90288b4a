//! Any bytes as a question to the cluster's DNS server and the office's.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inroads_lab::fuzzing::dns_request(bytes));
