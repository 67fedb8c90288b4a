//! The lab's Kubernetes API server.

mod admission;
mod duration;
mod field;
mod kinds;
mod managed;
mod object;
mod patch;
mod quantity;
mod registry;
mod rest;
mod schema;
mod selector;
mod status;
mod store;
mod syntax;
mod table;
mod words;
