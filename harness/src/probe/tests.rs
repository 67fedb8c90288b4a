//! What attempts come to, with a method and a scenario that are scripts.

use std::net::SocketAddr;

use async_trait::async_trait;

use super::*;
use crate::access::Secret;
use crate::ids::MethodId;
use crate::measure::Reading;
use crate::method::{Connection, Invitation, Manifest, MethodError, Part};
use crate::scenario::{LoadOrder, LoadSpec, ScenarioError, Target};
use crate::stage::Stage;

/// A method that carries TCP alone.
struct Tcp;

#[async_trait]
impl Method for Tcp {
    fn id(&self) -> MethodId {
        MethodId::of("tcp")
    }

    fn title(&self) -> &'static str {
        "TCP"
    }

    fn summary(&self) -> &'static str {
        "carries TCP"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[Capability::Tcp]
    }

    fn limit(&self, _capability: Capability) -> &'static str {
        "TCP only"
    }

    fn parts(&self) -> &'static [Part] {
        &[]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[]
    }

    async fn invite(
        &self,
        _stage: &Stage,
        _targets: &[Target],
        _laptop: usize,
    ) -> Result<Invitation, MethodError> {
        Ok(Invitation::pack(&()))
    }

    async fn connect(&self, _invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        Err(MethodError::Refused {
            reason: "it is a script".to_owned(),
            hint: "connect another".to_owned(),
        })
    }
}

/// A scenario with an outcome for an unmodified client, and one for a client behind a proxy.
struct Script(Attempt, Attempt);

#[async_trait]
impl Scenario for Script {
    fn id(&self) -> &'static str {
        "script"
    }

    fn title(&self) -> &'static str {
        "Script"
    }

    fn summary(&self) -> &'static str {
        "says what it is told to say"
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[]
    }

    fn targets(&self, _workload: &Workload) -> Vec<Target> {
        Vec::new()
    }

    fn probes(&self) -> &'static [Probe] {
        &[]
    }

    async fn attempt(&self, _id: &str, dialer: &Dialer, _workload: &Workload) -> Attempt {
        match dialer.access() {
            Access::Unmodified => self.0.clone(),
            _ => self.1.clone(),
        }
    }

    fn loads(&self) -> &'static [LoadSpec] {
        &[]
    }

    fn measure(
        &self,
        load: &LoadOrder,
        _dialer: &Dialer,
        _workload: &Workload,
    ) -> Result<Vec<Reading>, ScenarioError> {
        Err(ScenarioError::NoSuchLoad(load.load.clone()))
    }
}

/// What two attempts at a probe that needs `needs` come to.
async fn outcome(
    needs: &'static [Capability],
    unmodified: Attempt,
    configured: Attempt,
) -> ProbeResult {
    let probe = Probe::must("group/name", "whether it works", needs);
    let proxy = Access::Socks5 {
        proxy: SocketAddr::from(([192, 0, 2, 1], 1080)),
        username: "u".to_owned(),
        password: Secret::new("p".to_owned()),
    };
    let script = Script(unmodified, configured);
    ask(&probe, &script, &Tcp, &[proxy], &Workload::default()).await
}

fn pass() -> Attempt {
    Attempt::pass("it works", "it does")
}

fn fail() -> Attempt {
    Attempt::fail("it works", "it does not")
}

fn not_tried() -> Attempt {
    Attempt::not_tried("it works", "no right to try")
}

#[tokio::test]
async fn the_least_effort_that_passes_counts_whatever_could_not_be_tried_before() {
    for unmodified in [fail(), not_tried()] {
        let result = outcome(&[], unmodified, pass()).await;
        assert_eq!(result.verdict, Verdict::Pass);
        assert_eq!(result.effort, Some(Effort::Configured));
        assert!(result.seen.starts_with("unmodified: "), "{}", result.seen);
    }
}

#[tokio::test]
async fn what_could_not_be_tried_is_neither_a_failure_nor_a_limit() {
    for (unmodified, configured) in [
        (not_tried(), fail()),
        (fail(), not_tried()),
        (not_tried(), not_tried()),
    ] {
        for needs in [&[][..], &[Capability::Icmp]] {
            let result = outcome(needs, unmodified.clone(), configured.clone()).await;
            assert_eq!(result.verdict, Verdict::NotRun);
            assert_eq!(result.effort, None);
            assert_eq!(result.reason.as_deref(), Some("no right to try"));
        }
    }
}

#[tokio::test]
async fn a_failure_is_a_limit_where_the_method_does_not_carry_what_is_needed() {
    let failed = outcome(&[Capability::Tcp], fail(), fail()).await;
    assert_eq!((failed.verdict, failed.reason), (Verdict::Fail, None));
    let limited = outcome(&[Capability::Tcp, Capability::Icmp], fail(), fail()).await;
    assert_eq!(limited.verdict, Verdict::Unsupported);
    assert_eq!(limited.reason.as_deref(), Some("TCP only"));
    assert_eq!(
        limited.seen,
        "unmodified: it does not; configured: it does not"
    );
}
