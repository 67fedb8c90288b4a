//! Any bytes as a SPDY connection to a kubelet of the lab.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inroads_lab::fuzzing::spdy(bytes));
