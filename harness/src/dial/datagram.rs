//! Datagrams as SOCKS5 wraps them (RFC 1928 §7): a header with an address, then the payload.
//!
//! `fast-socks5` reads the header; that fragments are not put together is said here.

use std::io;

use fast_socks5::parse_udp_request;
use fast_socks5::util::target_addr::TargetAddr;

/// The address in a datagram's header, and the payload behind it.
///
/// # Errors
/// `InvalidData` where it has no such header, or is a fragment: who does not reassemble drops them.
pub async fn parse(datagram: &[u8]) -> io::Result<(TargetAddr, &[u8])> {
    match parse_udp_request(datagram).await {
        Ok((0, address, payload)) => Ok((address, payload)),
        Ok(_) => Err(invalid("a datagram of SOCKS5 is a fragment")),
        Err(error) => Err(invalid(error)),
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use fast_socks5::new_udp_header;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn read(datagram: &[u8]) -> io::Result<(TargetAddr, &[u8])> {
        parse(datagram)
            .now_or_never()
            .expect("it waits for nothing")
    }

    fn address() -> impl Strategy<Value = TargetAddr> {
        prop_oneof![
            any::<(IpAddr, u16)>().prop_map(|address| TargetAddr::Ip(SocketAddr::from(address))),
            ("[a-zé.-]{0,100}", any::<u16>())
                .prop_map(|(name, port)| TargetAddr::Domain(name, port)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_wrapped_is_read_whole_and_no_part_of_it_or_fragment_is(
            address in address(),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            fragment in 1_u8..,
        ) {
            let header = new_udp_header(address.clone()).unwrap();
            let mut datagram = [&header[..], &payload].concat();
            prop_assert_eq!(read(&datagram).unwrap(), (address, &payload[..]));
            for end in 0..header.len() {
                prop_assert!(read(&datagram[..end]).is_err(), "{}", end);
            }
            datagram[2] = fragment;
            prop_assert!(read(&datagram).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_are_what_would_be_written(
            kind in 0_u8..6,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            for datagram in [[&[0, 0, 0, kind], &bytes[..]].concat(), bytes] {
                if let Ok((address, payload)) = read(&datagram) {
                    let header = new_udp_header(address).unwrap();
                    prop_assert_eq!([&header, payload].concat(), datagram);
                }
            }
        }
    }
}
