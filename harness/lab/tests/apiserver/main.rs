//! The API server and its controllers as a whole: a real server on a free port, driven by the `kube`
//! crate and by `kubectl`, with a kubelet that only pretends to run containers.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is test code, helpers included"
)]

mod cluster;
mod deploy;
mod kubectl;
mod kubelet;
mod many;
mod objects;
mod proxying;
mod rights;
