//! Clusters of real Kubernetes: kind clusters that are made for a run, and any that a kubeconfig names.
//!
//! After it is there, a kind cluster is used as any other: by its API. This crate makes and deletes it, puts
//! this program into its nodes, and gives laptops: containers on the nodes' network. What it makes on the
//! machine's engine stands in a ledger first, so that all of it goes again, whatever ends the controller.

mod cluster;
mod context;
mod docker;
mod facts;
mod kind;
mod laptops;
mod ledger;
mod program;
mod rbac;
mod tool;

use inroads_harness::role::Role;

pub use cluster::{ContextOptions, RealCluster, Standing, clean, client, looks_like_a_test};
pub use docker::Docker;
pub use kind::{KindOptions, local_node_image, version as kind_version};
pub use program::build as build_image;
pub use rbac::rbac;

/// What this program is on laptops and beside the controller.
#[must_use]
pub fn roles() -> Vec<Role> {
    vec![laptops::ROLE, ledger::ROLE]
}
