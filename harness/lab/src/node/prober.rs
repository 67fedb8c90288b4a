//! Probes of containers: whether they have started, serve, and live.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// While a container has never passed, it is asked this often or more: a real kubelet waits a whole
/// period between its first questions, which makes every start take that long.
const FIRST_PERIOD: Duration = Duration::from_millis(20);

/// What the probes of a container say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It serves, or no longer does.
    Ready(bool),
    /// It must be started anew.
    Dead,
}

/// Asks all probes of `container`, as long as it is polled, and sends what changes. Without a readiness
/// probe a container serves as soon as it has started.
pub(crate) async fn watch(
    container: &Container,
    address: Ipv4Addr,
    findings: mpsc::Sender<Finding>,
) {
    if let Some(probe) = &container.startup_probe {
        let asked = Asked::new(probe, container, address);
        if !asked.until_passed().await {
            let _ = findings.send(Finding::Dead).await;
            return;
        }
    }
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => {
                Asked::new(probe, container, address)
                    .report_changes(&findings)
                    .await;
            }
            None => {
                let _ = findings.send(Finding::Ready(true)).await;
            }
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            Asked::new(probe, container, address).until_dead().await;
            let _ = findings.send(Finding::Dead).await;
        }
    };
    tokio::join!(readiness, liveness);
}

/// A probe with its defaults filled in.
struct Asked<'a> {
    probe: &'a Probe,
    container: &'a Container,
    address: Ipv4Addr,
    period: Duration,
    limit: Duration,
    successes: i32,
    failures: i32,
}

impl<'a> Asked<'a> {
    fn new(probe: &'a Probe, container: &'a Container, address: Ipv4Addr) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .and_then(|v| u64::try_from(v).ok())
                    .filter(|v| *v > 0)
                    .unwrap_or(default),
            )
        };
        Self {
            probe,
            container,
            address,
            period: seconds(probe.period_seconds, 10),
            limit: seconds(probe.timeout_seconds, 1),
            successes: probe.success_threshold.unwrap_or(1).max(1),
            failures: probe.failure_threshold.unwrap_or(3).max(1),
        }
    }

    /// Whether it passes before it has failed too often; asked in full periods, as it costs nothing to.
    async fn until_passed(&self) -> bool {
        self.initial_delay().await;
        for _ in 0..self.failures {
            if self.passes().await {
                return true;
            }
            tokio::time::sleep(self.period).await;
        }
        false
    }

    async fn until_dead(&self) {
        self.initial_delay().await;
        let mut failed = 0;
        while failed < self.failures {
            tokio::time::sleep(self.period).await;
            failed = if self.passes().await { 0 } else { failed + 1 };
        }
    }

    async fn report_changes(&self, findings: &mpsc::Sender<Finding>) {
        self.initial_delay().await;
        let (mut ready, mut ever, mut run) = (false, false, 0);
        let mut pause = FIRST_PERIOD.min(self.period);
        loop {
            let passed = self.passes().await;
            run = if passed == ready { 0 } else { run + 1 };
            if run >= if ready { self.failures } else { self.successes } {
                (ready, ever, run) = (passed, true, 0);
                if findings.send(Finding::Ready(ready)).await.is_err() {
                    return;
                }
            }
            let pause_now = if ever { self.period } else { pause };
            tokio::time::sleep(pause_now).await;
            pause = doubled(pause, self.period);
        }
    }

    async fn initial_delay(&self) {
        let seconds = self
            .probe
            .initial_delay_seconds
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    async fn passes(&self) -> bool {
        timeout(self.limit, self.ask()).await.unwrap_or(false)
    }

    /// One question. A probe of a kind that is not known here does not pass, and its pod shows it.
    async fn ask(&self) -> bool {
        if let Some(get) = &self.probe.http_get {
            let path = get.path.as_deref().unwrap_or("/");
            return match self.port(&get.port) {
                Some(port) => self.http_get(port, path).await,
                None => false,
            };
        }
        if let Some(socket) = &self.probe.tcp_socket {
            return match self.port(&socket.port) {
                Some(port) => TcpStream::connect(SocketAddr::from((self.address, port)))
                    .await
                    .is_ok(),
                None => false,
            };
        }
        false
    }

    async fn http_get(&self, port: u16, path: &str) -> bool {
        let Ok(stream) = TcpStream::connect(SocketAddr::from((self.address, port))).await else {
            return false;
        };
        let Ok((mut sender, connection)) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await
        else {
            return false;
        };
        // A question that takes too long is dropped, and its connection with it.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = hyper::Request::get(path)
            .header("host", format!("{}:{port}", self.address))
            .header("user-agent", "kube-probe/inroads")
            .body(Empty::<Bytes>::new());
        match request {
            Ok(request) => {
                let answer = sender.send_request(request).await;
                answer.is_ok_and(|answer| answer.status().as_u16() < 400)
            }
            Err(_) => false,
        }
    }

    /// A port by number, or by the name it has in the container.
    fn port(&self, port: &IntOrString) -> Option<u16> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                ports
                    .find(|port| port.name.as_deref() == Some(name))
                    .map(|port| port.container_port)
            }
        };
        number.and_then(|number| u16::try_from(number).ok())
    }
}

/// Twice as long, but no longer than `limit`: a container may be asked for days.
fn doubled(pause: Duration, limit: Duration) -> Duration {
    pause.saturating_mul(2).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_the_period_and_no_further() {
        let period = Duration::from_secs(1);
        let mut pause = FIRST_PERIOD;
        for _ in 0..1000 {
            let next = doubled(pause, period);
            assert!(next >= pause && next <= period, "{pause:?} {next:?}");
            pause = next;
        }
        assert_eq!(pause, period);
    }
}
