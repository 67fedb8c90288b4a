//! Any bytes as a datagram to or from a SOCKS5 proxy: it is refused, or is what would be written for the address and
//! the payload that are read.

#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fast_socks5::new_udp_header;
use inroads_harness::dial::datagram;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reading = pin!(datagram::parse(bytes));
    let Poll::Ready(read) = reading
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("there is nothing to wait for");
    };
    if let Ok((address, payload)) = read {
        let header = new_udp_header(address).expect("it was read");
        assert_eq!([&header, payload].concat(), bytes);
    }
});
