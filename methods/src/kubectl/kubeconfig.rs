//! What kubectl is told: a kubeconfig that no file system holds.
//!
//! It lies in memory behind a descriptor (memfd_create(2)) which each kubectl gets as its standard input and
//! opens again as `/proc/self/fd/0`. So it has no name that another user could open, and is gone with the last
//! process that holds it, SIGKILL or not.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use inroads_harness::method::MethodError;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::json;

use crate::account::Told;

/// Where a kubectl finds it.
pub(super) const PATH: &str = "/proc/self/fd/0";

/// A kubeconfig.
pub(super) struct Kubeconfig(File);

impl Kubeconfig {
    /// For who was told so.
    pub(super) fn of(told: &Told) -> Result<Self, MethodError> {
        let written = || -> io::Result<File> {
            let mut file = File::from(memfd_create(c"kubeconfig", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(text(told).as_bytes())?;
            Ok(file)
        };
        written()
            .map(Self)
            .map_err(MethodError::while_doing("making a kubeconfig"))
    }

    /// As the standard input of a process.
    pub(super) fn input(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }
}

/// JSON is YAML too.
fn text(told: &Told) -> String {
    let ca = BASE64_STANDARD.encode(&told.ca);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "c", "cluster": {
            "server": told.api_server,
            "certificate-authority-data": ca,
        } }],
        "users": [{ "name": "u", "user": { "token": told.token.expose() } }],
        "contexts": [{ "name": "x", "context": {
            "cluster": "c", "user": "u", "namespace": told.namespace,
        } }],
        "current-context": "x",
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use inroads_harness::access::Secret;

    use super::*;

    #[test]
    fn each_process_reads_all_of_it_from_its_own_input() {
        let told = Told {
            api_server: "https://192.0.2.1:6443".to_owned(),
            ca: "a certificate".to_owned(),
            token: Secret::new("a token".to_owned()),
            namespace: "inroads".to_owned(),
            targets: Vec::new(),
        };
        let kubeconfig = Kubeconfig::of(&told).unwrap();
        for _ in 0..2 {
            let output = std::process::Command::new("cat")
                .arg(PATH)
                .stdin(kubeconfig.input().unwrap())
                .output()
                .unwrap();
            let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(read["users"][0]["user"]["token"], "a token");
            let server = &read["clusters"][0]["cluster"]["server"];
            assert_eq!(server, "https://192.0.2.1:6443");
        }
    }
}
