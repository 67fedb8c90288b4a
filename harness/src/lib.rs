//! The vocabulary and the engine of Inroads.
//!
//! This crate says what a [`Cluster`], a [`Method`], a [`Scenario`] and a run *are*, carries orders to
//! the agents on laptops and in pods, measures, and drives a run from its plan to its result file. It
//! receives clusters, methods and scenarios as arguments and knows none of them by name: they live in
//! `inroads-lab`, `inroads-methods` and `inroads-scenarios`. Rendering a result is `inroads-reports`' job.

pub mod access;
pub mod agent;

pub mod causes;
mod cell;
pub mod clock;
pub mod cluster;
pub mod comparison;
pub mod descriptors;
pub mod dial;
pub mod dns;

pub mod engine;
pub mod event;
pub mod expected;
mod handicap;
pub mod heir;
pub mod ids;
pub mod kubernetes;
pub mod measure;

pub mod metrics;

pub mod method;

pub mod pages;
pub mod plan;
pub mod private;
pub mod probe;
pub mod process_usage;
pub mod role;
pub mod run;
pub mod scenario;
pub mod snapshot;
pub mod software;
pub mod stage;
pub mod stats;
pub mod validity;

pub use access::{Access, Effort, Secret};
pub use cluster::{Cluster, Facts, Laptop};
pub use method::{Connection, Method};
pub use scenario::Scenario;
pub use stage::Stage;
