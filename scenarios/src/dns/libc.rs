//! The system's resolver, as almost every program uses it: by the C library, which reads `hosts`,
//! `resolv.conf` and its search list.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use inroads_harness::measure::OpError;
use socket2::SockAddr;
use tokio::time::timeout;

/// Longest wait: the library itself gives up after two tries of five seconds.
const LIMIT: Duration = Duration::from_secs(5);

/// All addresses of a name (getaddrinfo(3)).
pub(super) async fn addresses(name: &str) -> Result<BTreeSet<IpAddr>, OpError> {
    let found = timeout(LIMIT, tokio::net::lookup_host((name, 0))).await;
    let found = found
        .map_err(|_elapsed| silent())?
        .map_err(|error| failed(&error))?;
    Ok(found.map(|address| address.ip()).collect())
}

/// The name of an address (getnameinfo(3)), without a dot at its end.
pub(super) async fn name(address: IpAddr) -> Result<String, OpError> {
    let asking = tokio::task::spawn_blocking(move || name_blocking(address));
    let found = timeout(LIMIT, asking).await.map_err(|_elapsed| silent())?;
    let found = found.map_err(|error| OpError(error.to_string()))?;
    found.map_err(|error| failed(&error))
}

#[expect(unsafe_code, reason = "no crate of ours binds getnameinfo(3)")]
fn name_blocking(address: IpAddr) -> io::Result<String> {
    // The longest name is 255 bytes (RFC 1035 §2.3.4); `NI_MAXHOST` has room for more.
    let mut name = [0_u8; 1025];
    let address = SockAddr::from(SocketAddr::new(address, 0));
    let room = libc::socklen_t::try_from(name.len()).map_err(io::Error::other)?;
    // SAFETY: `address` is a socket address of the length given, and `name` has as much room as is said.
    let code = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr().cast(),
            room,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        // SAFETY: the library has a text for every code, which is never freed.
        let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) };
        return Err(io::Error::other(text.to_string_lossy().into_owned()));
    }
    let found = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(found.to_string_lossy().into_owned())
}

fn silent() -> OpError {
    OpError(format!("libc: no answer within {} s", LIMIT.as_secs()))
}

fn failed(error: &io::Error) -> OpError {
    OpError(format!("libc: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_name_of_loopback_is_found_and_a_missing_one_is_an_error() {
        // Every system has this one in its hosts file.
        let name = name("127.0.0.1".parse().unwrap()).await.unwrap();
        assert!(name.starts_with("localhost"), "{name}");
        let error = addresses("no-such-name.invalid").await.unwrap_err();
        assert!(error.0.starts_with("libc: "), "{error}");
    }

    #[tokio::test]
    async fn an_address_without_a_name_is_an_error() {
        // Nobody has a name for a documentation address (RFC 5737), and no network answers for it.
        let error = name("192.0.2.1".parse().unwrap()).await.unwrap_err();
        assert!(error.0.starts_with("libc: "), "{error}");
    }
}
