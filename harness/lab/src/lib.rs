//! The embedded lab: a small, rootless Kubernetes cluster in this process and its children.

pub mod apiserver;
mod controllers;
pub mod pki;
