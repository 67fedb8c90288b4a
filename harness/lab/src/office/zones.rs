//! The zones of an office: its own, the one of its addresses, and the root above both.

use hickory_proto::rr::rdata::{MX, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, RecordType};

use super::Settings;
use crate::authority::{Answer, Zone};

/// How long a record may be remembered, in seconds: as administrators set it.
const TTL: u32 = 300;

/// How long it may be remembered that there is none.
const NEGATIVE_TTL: u32 = 60;

/// Zones, the most particular first.
pub(super) struct Zones([Zone; 3]);

impl Zones {
    /// Nothing where the domain is no name.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let mut domain = Name::from_ascii(&settings.domain).ok()?;
        domain.set_fqdn(true);
        let names = Names {
            dns: below(&domain, "dns")?,
            hostmaster: below(&domain, "hostmaster")?,
        };
        let mut office = names.zone(domain.clone());
        let hosts = [
            ("intranet", settings.address),
            ("dns", settings.address),
            ("mail", settings.address),
            ("router", settings.router),
        ];
        for (host, address) in hosts {
            office.insert(below(&domain, host)?, TTL, address.into());
        }
        office.insert(
            domain.clone(),
            TTL,
            RData::MX(MX::new(10, below(&domain, "mail")?)),
        );
        office.insert(
            domain.clone(),
            TTL,
            RData::TXT(TXT::new(vec!["v=spf1 mx -all".to_owned()])),
        );

        // The /24 that the server is in.
        let mut addresses = names.zone(Name::from(settings.address).base_name());
        for (address, host) in [(settings.address, "intranet"), (settings.router, "router")] {
            let name = Name::from(address);
            if addresses.covers(&name) {
                addresses.insert(name, TTL, RData::PTR(PTR(below(&domain, host)?)));
            }
        }
        Some(Self([office, addresses, names.zone(Name::root())]))
    }

    pub(super) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let [office, addresses, root] = &self.0;
        let zone = [office, addresses]
            .into_iter()
            .find(|zone| zone.covers(name));
        zone.unwrap_or(root).answer(name, kind)
    }
}

/// Who answers for all zones, and whom to write to about them.
struct Names {
    dns: Name,
    hostmaster: Name,
}

impl Names {
    fn zone(&self, origin: Name) -> Zone {
        let (server, mailbox) = (self.dns.clone(), self.hostmaster.clone());
        let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, NEGATIVE_TTL);
        let mut zone = Zone::new(origin.clone(), soa);
        zone.insert(origin, TTL, RData::NS(NS(self.dns.clone())));
        zone
    }
}

fn below(domain: &Name, label: &str) -> Option<Name> {
    domain.prepend_label(label).ok()
}
