//! What `dig`, written by others, makes of the answers.

use std::ffi::OsStr;
use std::io::Write as _;

use tokio::process::Command;

use super::*;

/// What `dig` prints, or nothing where there is no `dig`.
async fn dig(server: SocketAddr, arguments: &str) -> Option<String> {
    let program = std::env::var_os("DIG");
    let mut command = Command::new(program.as_deref().unwrap_or(OsStr::new("dig")));
    command.args([
        "@127.0.0.1",
        "-p",
        &server.port().to_string(),
        "+time=5",
        "+tries=1",
    ]);
    let output = command
        .args(arguments.split_whitespace())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
    for complaint in ["malformed", "extra bytes", "mismatch", "bad packet"] {
        assert!(!text.contains(complaint), "{arguments}: {text}");
    }
    Some(text)
}

#[tokio::test]
async fn dig_understands_every_answer() {
    let (upstream, _upstream) = office();
    let (server, _serving) = cluster_dns(&[upstream]);
    for (arguments, expected) in [
        ("WeB.default.svc.cluster.local A +short", vec!["10.96.1.2"]),
        (
            "WeB.default.svc.cluster.local A",
            vec![
                "WeB.default.svc.cluster.local. 5 IN A",
                "flags: qr aa rd;",
                "EDNS: version: 0",
            ],
        ),
        (
            "+noedns _http._tcp.db.default.svc.cluster.local SRV",
            vec![
                "ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 2",
                "8080 db-0.db.default.svc.cluster.local.",
            ],
        ),
        (
            "+tcp crowd.default.svc.cluster.local A",
            vec!["ANSWER: 120"],
        ),
        (
            "+ignore crowd.default.svc.cluster.local A",
            vec!["flags: qr aa tc rd;", "EDNS: version: 0"],
        ),
        (
            "+ignore +noedns crowd.default.svc.cluster.local A",
            vec!["flags: qr aa tc rd;"],
        ),
        (
            "crowd.default.svc.cluster.local A",
            vec!["Truncated, retrying in TCP mode", "ANSWER: 120"],
        ),
        (
            "nope.default.svc.cluster.local A",
            vec!["status: NXDOMAIN", "IN SOA ns.dns.cluster.local."],
        ),
        (
            "web.default.svc.cluster.local AAAA",
            vec!["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "IN SOA"],
        ),
        (
            "-x 10.244.1.5 +short",
            vec!["db-0.db.default.svc.cluster.local."],
        ),
        (
            "elsewhere.default.svc.cluster.local A +short",
            vec!["www.office.test.", "192.0.2.80"],
        ),
        ("www.office.test A +short", vec!["192.0.2.80"]),
        ("dns-version.cluster.local TXT +short", vec!["\"1.1.0\""]),
        ("cluster.local AXFR", vec!["Transfer failed"]),
        ("+opcode=15 cluster.local", vec!["status: NOTIMP"]),
        ("+edns=1 +noednsneg cluster.local", vec!["status: BADVERS"]),
        ("version.bind CH TXT", vec!["status: REFUSED"]),
        (
            "+dnssec +cookie +nsid web.default.svc.cluster.local",
            vec!["flags: do; udp: 1232", "10.96.1.2"],
        ),
        (
            "cluster.local NS",
            vec!["ns.dns.cluster.local.", "ADDITIONAL: 2"],
        ),
    ] {
        let Some(text) = dig(server, arguments).await else {
            let reason = "skipped: there is no `dig` on this machine (Debian: bind9-dnsutils)";
            let _past_the_test_harness = writeln!(std::io::stderr(), "{reason}");
            return;
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in expected {
            assert!(
                text.contains(expected),
                "dig {arguments}: no `{expected}` in {text}"
            );
        }
    }
}
