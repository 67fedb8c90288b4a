//! The API server and its controllers as a whole: a real server on a free port, driven by the `kube`
//! crate and by `kubectl`, with a kubelet that only pretends to run containers.

mod cluster;
mod deploy;
mod kubectl;
mod kubelet;
mod many;
mod objects;
mod proxying;
mod rights;
