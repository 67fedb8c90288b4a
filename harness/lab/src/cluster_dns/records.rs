//! From objects of the API to records: the Kubernetes DNS specification, version 1.1.0.
//!
//! Pure, and for all names at once: a change of any object makes all records anew, beside the questions.
//! Where the specification leaves a choice, or clusters do more than it asks for, this does as CoreDNS'
//! `kubernetes` plugin does with `pods insecure`, which is how kubeadm sets it up.

mod objects;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::authority::Zone;
use objects::{Endpoint, Kind, Port};

/// How long a record may be remembered, in seconds: the default of CoreDNS' plugin.
const TTL: u32 = 5;

/// The version of the specification (§2.2), and how long CoreDNS lets it be remembered.
const SCHEMA_VERSION: (&str, u32) = ("1.1.0", 28_800);

/// The objects of a cluster at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) namespaces: Vec<Arc<Namespace>>,
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
    /// What clusters before Kubernetes 1.21 have instead of slices.
    pub(crate) endpoints: Vec<Arc<Endpoints>>,
}

/// What records need besides the objects.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The cluster's domain, `cluster.local.`
    pub(crate) domain: Name,
    /// The addresses of this server itself.
    pub(crate) addresses: Vec<IpAddr>,
}

/// All records of a cluster.
#[derive(Debug)]
pub(crate) struct Records {
    /// The names below the cluster's domain.
    pub(crate) names: Zone,
    /// The names of addresses (§2.3.3, §2.4.3). What it does not have is not missing, but others'.
    pub(crate) addresses: Zone,
}

impl Records {
    /// The records of these objects. `serial` is the zone's.
    pub(crate) fn of(snapshot: &Snapshot, identity: &Identity, serial: u32) -> Self {
        let mut records = Self::empty(&identity.domain, serial);
        for namespace in &snapshot.namespaces {
            if let Some(name) = &namespace.metadata.name {
                records.add_namespace(name);
            }
        }
        let mut endpoints: HashMap<(&str, &str), Vec<Endpoint>> = HashMap::new();
        for slice in &snapshot.slices {
            if let Some(service) = objects::service_of(slice) {
                endpoints
                    .entry(service)
                    .or_default()
                    .extend(objects::endpoints(slice));
            }
        }
        for listed in &snapshot.endpoints {
            if let (Some(namespace), Some(name)) =
                (&listed.metadata.namespace, &listed.metadata.name)
            {
                endpoints
                    .entry((namespace, name))
                    .or_default()
                    .extend(objects::listed_endpoints(listed));
            }
        }
        let mut own = BTreeSet::new();
        for service in &snapshot.services {
            let metadata = &service.metadata;
            let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
                continue;
            };
            let endpoints = endpoints
                .remove(&(namespace.as_str(), name.as_str()))
                .unwrap_or_default();
            let Some(kind) = Kind::of(service) else {
                continue;
            };
            if let Kind::ClusterIp(addresses) = &kind
                && endpoints
                    .iter()
                    .any(|it| identity.addresses.contains(&it.address))
            {
                own.extend(addresses);
            }
            if let Some(owner) = records.below(&[name, namespace, "svc"]) {
                records.add_service(&owner, kind, &objects::ports(service), &endpoints);
            }
        }
        if own.is_empty() {
            own.extend(&identity.addresses);
        }
        records.add_server(own);
        records
    }

    /// The names that are there without any object (§2.2).
    fn empty(domain: &Name, serial: u32) -> Self {
        let server = below(domain, &["ns", "dns"]).unwrap_or_default();
        let mailbox = below(domain, &["hostmaster"]).unwrap_or_default();
        let soa = SOA::new(server, mailbox, serial, 7200, 1800, 86_400, TTL);
        let mut records = Self {
            names: Zone::new(domain.clone(), soa.clone()).with_computed(pod),
            addresses: Zone::new(reverse_root(), soa),
        };
        let (version, ttl) = SCHEMA_VERSION;
        if let Some(name) = records.below(&["dns-version"]) {
            let text = TXT::new(vec![version.to_owned()]);
            records.names.insert(name, ttl, RData::TXT(text));
        }
        for empty in ["svc", "pod"] {
            if let Some(name) = records.below(&[empty]) {
                records.names.insert_name(name);
            }
        }
        records
    }

    /// A namespace has no record of its own, but it is there.
    fn add_namespace(&mut self, namespace: &str) {
        for kind in ["svc", "pod"] {
            if let Some(name) = self.below(&[namespace, kind]) {
                self.names.insert_name(name);
            }
        }
    }

    fn add_service(&mut self, owner: &Name, kind: Kind, ports: &[Port], endpoints: &[Endpoint]) {
        match kind {
            Kind::External(target) => {
                self.names
                    .insert(owner.clone(), TTL, RData::CNAME(CNAME(target)));
            }
            Kind::ClusterIp(addresses) => {
                let places = addresses.iter().map(|address| Place {
                    address: *address,
                    target: owner.clone(),
                    ports,
                });
                self.add_places(owner, &places.collect::<Vec<_>>());
                for address in addresses {
                    self.add_pointer(address, owner);
                }
                // Beyond the specification: endpoints have their names in any Service that has endpoints.
                self.add_endpoints(owner, endpoints, Pointers::Named);
            }
            Kind::Headless => {
                let places = endpoints
                    .iter()
                    .filter_map(|it| Place::of_endpoint(it, owner));
                self.add_places(owner, &places.collect::<Vec<_>>());
                self.add_endpoints(owner, endpoints, Pointers::All);
            }
        }
    }

    /// The names of endpoints (§2.4.1) and of their addresses (§2.4.3).
    fn add_endpoints(&mut self, service: &Name, endpoints: &[Endpoint], pointers: Pointers) {
        for endpoint in endpoints {
            let Some(place) = Place::of_endpoint(endpoint, service) else {
                continue;
            };
            // As in CoreDNS: a pod behind several Services has the name that it was given, and no others.
            if endpoint.is_named || pointers == Pointers::All {
                self.add_pointer(place.address, &place.target);
            }
            self.names
                .insert(place.target.clone(), TTL, place.address.into());
            let served: Vec<Served<'_>> = place.all_ports().collect();
            self.add_ports(&place.target, &served);
        }
    }

    /// The addresses of a Service (§2.3.1, §2.4.1) and its ports: those with names under names of their own
    /// (§2.3.2, §2.4.2) and, beyond the specification, all under the Service's.
    fn add_places(&mut self, owner: &Name, places: &[Place<'_>]) {
        let addresses = places.iter().map(|place| place.address.into());
        self.names.extend(owner.clone(), TTL, addresses);
        let all: Vec<Served<'_>> = places.iter().flat_map(Place::all_ports).collect();
        let mut named: HashMap<(&str, &str), Vec<Served<'_>>> = HashMap::new();
        for served in &all {
            let Port { name, protocol, .. } = served.1;
            if !name.is_empty() {
                named.entry((name, protocol)).or_default().push(*served);
            }
        }
        for ((name, protocol), served) in named {
            if let Some(name) = below(owner, &[&format!("_{name}"), &format!("_{protocol}")]) {
                self.add_ports(&name, &served);
            }
        }
        self.add_ports(owner, &all);
    }

    /// Ports under a name. As in CoreDNS they share a weight of 100, and the name has their addresses too.
    fn add_ports(&mut self, name: &Name, served: &[Served<'_>]) {
        let weight = 100 / u16::try_from(served.len().clamp(1, 100)).unwrap_or(100);
        let addresses = served.iter().map(|(place, _)| place.address.into());
        let services = served.iter().map(|(place, port)| {
            RData::SRV(SRV::new(0, weight, port.number, place.target.clone()))
        });
        self.names
            .extend(name.clone(), TTL, addresses.chain(services));
    }

    fn add_pointer(&mut self, address: IpAddr, name: &Name) {
        self.addresses
            .insert(address.into(), TTL, RData::PTR(PTR(name.clone())));
    }

    /// This server, as the zone names it.
    fn add_server(&mut self, addresses: BTreeSet<IpAddr>) {
        let Some(name) = self.below(&["ns", "dns"]) else {
            return;
        };
        for address in addresses {
            self.names.insert(name.clone(), TTL, address.into());
        }
        let origin = self.names.origin().clone();
        self.names.insert(origin, TTL, RData::NS(NS(name)));
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        below(self.names.origin(), labels)
    }
}

/// Which endpoints' addresses have names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pointers {
    /// Those of all.
    All,
    /// Those of endpoints that were given a name.
    Named,
}

/// Where ports are served, and under which name.
struct Place<'a> {
    address: IpAddr,
    target: Name,
    ports: &'a [Port],
}

/// A port at a place.
type Served<'a> = (&'a Place<'a>, &'a Port);

impl<'a> Place<'a> {
    fn of_endpoint(endpoint: &'a Endpoint, service: &Name) -> Option<Self> {
        Some(Self {
            address: endpoint.address,
            target: below(service, &[&endpoint.hostname])?,
            ports: &endpoint.ports,
        })
    }

    fn all_ports(&'a self) -> impl Iterator<Item = Served<'a>> {
        self.ports.iter().map(move |port| (self, port))
    }
}

/// The name of these labels below `name`; none where that makes no name, as a label too long.
fn below(name: &Name, labels: &[&str]) -> Option<Name> {
    let labels = labels.iter().map(|label| label.as_bytes());
    Name::from_labels(labels.chain(name.iter())).ok()
}

/// A name as people write it, from the root.
pub(super) fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

/// The name above those of all addresses, of both families.
fn reverse_root() -> Name {
    Name::from_labels(["arpa".as_bytes()]).expect("it is a name")
}

/// What follows from the name of a pod that is made of its address (§2.6): the address, whether there is
/// such a pod or not, where there is such a namespace.
fn pod(zone: &Zone, name: &Name) -> Option<RData> {
    let namespace = name.base_name();
    if Some(namespace.base_name()) != below(zone.origin(), &["pod"]) || !zone.has(&namespace) {
        return None;
    }
    let label = std::str::from_utf8(name.iter().next()?).ok()?;
    let is_ipv4 = label.matches('-').count() == 3 && !label.contains("--");
    if is_ipv4 {
        return Some(label.replace('-', ".").parse::<Ipv4Addr>().ok()?.into());
    }
    Some(label.replace('-', ":").parse::<Ipv6Addr>().ok()?.into())
}
