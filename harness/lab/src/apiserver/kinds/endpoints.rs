//! Endpoints and EndpointSlices.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{EndpointAddress, Endpoints},
    discovery::v1::{Endpoint, EndpointSlice},
};
use serde_json::Value;

use super::{
    Kind,
    container::{PROTOCOLS, validate_choice},
    metadata::IMMUTABLE,
};
use crate::apiserver::{
    field::{Path, Problems},
    registry::{ENDPOINT_SLICES, ENDPOINTS, Resource},
    syntax,
    table::{AGE, Column, NAME, age},
};

const SHOWN: usize = 3;

impl Kind for Endpoints {
    const RESOURCE: &'static Resource = &ENDPOINTS;
    const COLUMNS: &'static [Column] = &[NAME, Column::text("Endpoints"), AGE];

    fn set_defaults(&mut self) {
        for subset in self.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                port.protocol.get_or_insert_with(|| "TCP".to_owned());
            }
        }
    }

    fn validate(&self, problems: &mut Problems) {
        let path = Path::new("subsets");
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let path = path.index(index);
            let lists = [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ];
            for (field, addresses) in lists {
                let path = path.field(field);
                validate_addresses(addresses.iter().flatten(), &path, problems);
            }
            let ports_path = path.field("ports");
            for (index, port) in subset.ports.iter().flatten().enumerate() {
                let path = ports_path.index(index);
                if let Err(why) = syntax::port_number(port.port) {
                    problems.invalid(&path.field("port"), port.port, why);
                }
                let protocol = port.protocol.as_deref();
                validate_choice(protocol, &PROTOCOLS, &path.field("protocol"), problems);
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let subsets = self.subsets.iter().flatten();
        let shown = subsets.flat_map(|subset| {
            let ports: Vec<_> = subset
                .ports
                .iter()
                .flatten()
                .map(|port| Some(port.port))
                .collect();
            let ports = if ports.is_empty() { vec![None] } else { ports };
            let addresses = subset.addresses.iter().flatten();
            addresses.flat_map(move |address| {
                let socket = |port: &Option<i32>| match port {
                    Some(port) => format!("{}:{port}", address.ip),
                    None => address.ip.clone(),
                };
                ports.iter().map(socket).collect::<Vec<_>>()
            })
        });
        vec![
            self.name().into(),
            abridged(shown.collect()).into(),
            age(&self.metadata, now),
        ]
    }
}

impl Kind for EndpointSlice {
    const RESOURCE: &'static Resource = &ENDPOINT_SLICES;
    const COLUMNS: &'static [Column] = &[
        NAME,
        Column::text("AddressType"),
        Column::text("Ports"),
        Column::text("Endpoints"),
        AGE,
    ];

    fn set_defaults(&mut self) {
        self.endpoints.get_or_insert_default();
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(&self, problems: &mut Problems) {
        let choices = ["FQDN", "IPv4", "IPv6"];
        let address_type = Some(self.address_type.as_str());
        validate_choice(address_type, &choices, &Path::new("addressType"), problems);
        let path = Path::new("endpoints");
        for (index, endpoint) in self.endpoints.iter().flatten().enumerate() {
            let path = path.index(index);
            validate_endpoint(endpoint, &self.address_type, &path, problems);
        }
        let (path, mut names) = (Path::new("ports"), BTreeSet::new());
        for (index, port) in self.ports.iter().flatten().enumerate() {
            let path = path.index(index);
            if !names.insert(&port.name) {
                problems.duplicate(
                    &path.field("name"),
                    port.name.as_deref().unwrap_or_default(),
                );
            }
            let protocol = port.protocol.as_deref();
            validate_choice(protocol, &PROTOCOLS, &path.field("protocol"), problems);
        }
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        if self.address_type != old.address_type {
            problems.invalid(&Path::new("addressType"), &self.address_type, IMMUTABLE);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ports = self.ports.iter().flatten();
        let ports = ports.map(|port| {
            port.port
                .map_or_else(|| "*".to_owned(), |it| it.to_string())
        });
        let addresses = self
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| &endpoint.addresses);
        let or_unset = |text: String| {
            if text == "<none>" {
                "<unset>".to_owned()
            } else {
                text
            }
        };
        vec![
            self.name().into(),
            self.address_type.as_str().into(),
            or_unset(abridged(ports.collect())).into(),
            or_unset(abridged(addresses.cloned().collect())).into(),
            age(&self.metadata, now),
        ]
    }
}

fn validate_addresses<'a>(
    addresses: impl Iterator<Item = &'a EndpointAddress>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    for (index, address) in addresses.enumerate() {
        let path = path.index(index);
        validate_ip(&address.ip, &path.field("ip"), problems);
        validate_hostname(
            address.hostname.as_deref(),
            &path.field("hostname"),
            problems,
        );
    }
}

fn validate_endpoint(
    endpoint: &Endpoint,
    address_type: &str,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let addresses_path = path.field("addresses");
    if endpoint.addresses.is_empty() {
        problems.required(&addresses_path, "must contain at least 1 address");
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let path = addresses_path.index(index);
        match address_type {
            "IPv4" | "IPv6" => validate_ip(address, &path, problems),
            _ => {
                if let Err(why) = syntax::subdomain_1123(address) {
                    problems.invalid(&path, address, why);
                }
            }
        }
    }
    validate_hostname(
        endpoint.hostname.as_deref(),
        &path.field("hostname"),
        problems,
    );
}

fn validate_ip(address: &str, path: &Path<'_>, problems: &mut Problems) {
    match address.parse::<IpAddr>() {
        Err(_) => {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            problems.invalid(path, address, why);
        }
        Ok(parsed) if parsed.is_unspecified() => {
            problems.invalid(path, address, "may not be unspecified (0.0.0.0 or ::)");
        }
        Ok(_) => {}
    }
}

fn validate_hostname(hostname: Option<&str>, path: &Path<'_>, problems: &mut Problems) {
    if let Some(hostname) = hostname.filter(|hostname| !hostname.is_empty())
        && let Err(why) = syntax::label_1123(hostname)
    {
        problems.invalid(path, hostname, why);
    }
}

/// The first few entries, and how many more there are.
fn abridged(entries: Vec<String>) -> String {
    match entries.len() {
        0 => "<none>".to_owned(),
        total if total > SHOWN => {
            format!("{} + {} more...", entries[..SHOWN].join(","), total - SHOWN)
        }
        _ => entries.join(","),
    }
}
