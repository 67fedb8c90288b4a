//! The laptop's resolver while a method that routes is connected: the cluster's names are asked of the
//! cluster's DNS, everything else of whoever was asked before.

use std::net::IpAddr;

use inroads_harness::method::MethodError;
use inroads_harness::stage::Stage;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::laptop::Changes;

/// What a laptop must know of the cluster's names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterNames {
    domain: String,
    server: IpAddr,
    /// Networks whose addresses the cluster's DNS can name.
    reverse: Vec<IpNet>,
    /// Suffixes that short names are tried with.
    search: Vec<String>,
}

impl ClusterNames {
    /// Those of the cluster that `stage` stands in.
    pub(crate) fn of(stage: &Stage) -> Self {
        let facts = &stage.facts;
        let domain = facts.domain.clone();
        Self {
            search: vec![
                format!("{}.svc.{domain}", stage.namespace),
                format!("svc.{domain}"),
                domain.clone(),
            ],
            domain,
            server: facts.dns,
            reverse: vec![facts.service_cidr, facts.pod_cidr],
        }
    }
}

/// A resolver at work.
pub(crate) struct Split;

impl Split {
    pub(crate) async fn close(self) {}
}

/// x
pub(crate) async fn take_over(
    _changes: &mut Changes,
    _names: &ClusterNames,
) -> Result<Split, MethodError> {
    Ok(Split)
}
