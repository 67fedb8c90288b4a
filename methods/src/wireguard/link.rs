//! Addresses for an interface, and bringing it up. Routes are somebody else's.

use std::net::IpAddr;

use ipnet::IpNet;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::devconf::AddrGenMode;
use nlink::netlink::{Connection, Route};
use thiserror::Error;

/// An interface could not be configured.
#[derive(Debug, Error)]
#[error("cannot configure the interface `{name}`: {doing}")]
pub struct LinkError {
    name: String,
    doing: &'static str,
    #[source]
    source: nlink::Error,
}

/// Gives the interface `name` in this thread's network namespace `addresses`, and brings it up. It gets no
/// address of its own making, so it is silent until somebody sends.
///
/// # Errors
/// [`LinkError`]; some of it may be done then.
pub async fn bring_up(name: &str, addresses: &[IpNet]) -> Result<(), LinkError> {
    let failed = |doing| {
        move |source| LinkError {
            name: name.to_owned(),
            doing,
            source,
        }
    };
    let netlink = Connection::<Route>::new().map_err(failed("opening netlink"))?;
    let index = netlink
        .resolve_interface(&name.into())
        .await
        .map_err(failed("finding it"))?;
    // Best effort: a kernel without IPv6 has no such setting, and nothing to silence.
    let _ = netlink
        .set_addr_gen_mode_by_index(index, AddrGenMode::None)
        .await;
    for address in addresses {
        let added = match address.addr() {
            IpAddr::V4(v4) => {
                netlink
                    .add_address(Ipv4Address::with_index(index, v4, address.prefix_len()))
                    .await
            }
            IpAddr::V6(v6) => {
                let address = Ipv6Address::with_index(index, v6, address.prefix_len());
                netlink.add_address(address.nodad()).await
            }
        };
        added.map_err(failed("adding an address"))?;
    }
    netlink
        .set_link_up_by_index(index)
        .await
        .map_err(failed("bringing it up"))
}
