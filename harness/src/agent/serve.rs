//! The agent's side: carrying out orders until the input ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use ipnet::Ipv4Net;
use nix::sys::signal::Signal;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};
use tokio_util::sync::CancellationToken;

use super::protocol::{Answer, Call, MAX_LINE, Order, Reply, Usage};
use crate::causes::causes;
use crate::dial::Dialer;
use crate::expected::Expectations;
use crate::handicap::Handicap;
use crate::ids::MethodId;
use crate::method::{Interruptions, Invitation, LaptopNetwork, Method};
use crate::probe::Probe;
use crate::process_usage::ProcessUsage;
use crate::run::{Claim, Run};
use crate::scenario::{LoadOrder, Scenario, Workload};
use crate::snapshot::{self, Snapshot};
use crate::{Access, clock, method, probe};

/// How often a target is tried again that does not answer yet.
const REACH_PAUSE: Duration = Duration::from_millis(5);

/// Longest time for an answer to a knock.
const KNOCK_LIMIT: Duration = Duration::from_secs(2);

/// Longest time until a target must answer.
const REACH_LIMIT: Duration = Duration::from_secs(20);

/// All methods and scenarios that this program has, in report order.
pub struct Repertoire {
    /// The methods.
    pub methods: Vec<Box<dyn Method>>,
    /// The scenarios.
    pub scenarios: Vec<Box<dyn Scenario>>,
    /// What is expected of the probes.
    pub expected: Expectations,
    /// Answers the claims that a run can answer.
    pub claims: fn(&Run) -> Vec<Claim>,
}

impl Repertoire {
    /// The method of this id.
    #[must_use]
    pub fn method(&self, id: &MethodId) -> Option<&dyn Method> {
        self.methods
            .iter()
            .map(Box::as_ref)
            .find(|method| method.id() == *id)
    }

    /// The scenario of this id.
    #[must_use]
    pub fn scenario(&self, id: &str) -> Option<&dyn Scenario> {
        self.scenarios
            .iter()
            .map(Box::as_ref)
            .find(|scenario| scenario.id() == id)
    }
}

/// Carries out the orders that come in by `input` until it ends, then undoes what is connected.
///
/// # Errors
/// Where a line is no order, or an answer cannot be written: the controller is gone or is not ours.
pub async fn serve(
    repertoire: Arc<Repertoire>,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin,
) -> Result<(), Error> {
    let (mut calls, ended) = read_calls(input);
    let mut replies = FramedWrite::new(output, LinesCodec::new_with_max_length(MAX_LINE));
    let mut worker = Worker {
        repertoire,
        connection: None,
        overlap: None,
        handicap: None,
    };
    while let Some(call) = calls.recv().await {
        let Call { id, order } = call?;
        // An order that hangs must not outlive the controller: the next line, or the end of input,
        // is awaited beside it.
        let answer = tokio::select! {
            answer = worker.carry_out(order) => answer,
            () = ended.cancelled() => break,
        };
        replies
            .send(serde_json::to_string(&Reply { id, answer })?)
            .await?;
    }
    if worker.overlap.is_some() {
        worker.overlap(None).await?;
    }
    match worker.connection.take() {
        Some(connection) => Ok(connection.close().await?),
        None => Ok(()),
    }
}

/// Reads orders on a task of its own, so that the end of input is seen while one is carried out: the
/// token is cancelled then.
fn read_calls(input: impl AsyncRead + Send + Unpin + 'static) -> (Calls, CancellationToken) {
    let (sender, receiver) = mpsc::channel(1);
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let mut lines = FramedRead::new(input, LinesCodec::new_with_max_length(MAX_LINE));
    tokio::spawn(async move {
        let _ended = guard;
        while let Some(line) = lines.next().await {
            let call = line
                .map_err(Into::into)
                .and_then(|line| serde_json::from_str(&line).map_err(Into::into));
            if sender.send(call).await.is_err() {
                return;
            }
        }
    });
    (receiver, ended)
}

/// Orders as they come in, or what is wrong with a line.
type Calls = mpsc::Receiver<Result<Call, Error>>;

struct Worker {
    repertoire: Arc<Repertoire>,
    connection: Option<Box<dyn method::Connection>>,
    /// A network that was routed by the office's router, to be in a method's way.
    overlap: Option<(Ipv4Net, Ipv4Addr)>,
    /// What slows this laptop down on purpose.
    handicap: Option<Handicap>,
}

impl Worker {
    async fn carry_out(&mut self, order: Order) -> Answer {
        let outcome = match order {
            Order::Connect { method, invitation } => self.connect(&method, invitation).await,
            Order::Disconnect => self.disconnect().await,
            Order::Reach { access, host, port } => reach(access, &host, port).await,
            Order::Knock { addresses } => Ok(Answer::Silent(silent(addresses).await)),
            Order::Attempt {
                scenario,
                probe,
                access,
                workload,
            } => self.attempt(&scenario, &probe, access, &workload).await,
            Order::Snapshot => Snapshot::take()
                .await
                .map(Answer::Snapshot)
                .map_err(Into::into),
            Order::Overlap { network } => self.overlap(network).await,
            Order::Handicap { delay } => Handicap::begin(delay).await.map(|handicap| {
                self.handicap = Some(handicap);
                Answer::Done
            }),
            Order::Die => {
                // A process that is the first of its namespace outlives it.
                nix::sys::signal::raise(Signal::SIGKILL)
                    .map_err(Into::into)
                    .and_then(|()| Err("SIGKILL did not end it".into()))
            }
            Order::Probe {
                scenario,
                probe,
                method,
                accesses,
                workload,
            } => {
                self.probe(&scenario, &probe, &method, &accesses, &workload)
                    .await
            }
            Order::Measure {
                scenario,
                load,
                access,
                workload,
            } => self.measure(scenario, load, access, workload).await,
            Order::Settle => Ok(self.settle().await),
            Order::Usage => Ok(Answer::Used(usage())),
            Order::Network => self.network(),
        };
        outcome.unwrap_or_else(|error| Answer::Failed(causes(error.as_ref())))
    }

    async fn connect(&mut self, method: &MethodId, invitation: Invitation) -> Outcome {
        self.disconnect().await?;
        let repertoire = self.repertoire.clone();
        let method = repertoire
            .method(method)
            .ok_or_else(|| format!("there is no method `{method}`"))?;
        let connection = method.connect(invitation).await?;
        let answer = Answer::Connected {
            accesses: connection.accesses(),
            components: connection.components(),
        };
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn disconnect(&mut self) -> Outcome {
        if let Some(connection) = self.connection.take() {
            connection.close().await?;
        }
        Ok(Answer::Done)
    }

    async fn settle(&self) -> Answer {
        Answer::Settled(match &self.connection {
            Some(connection) => connection.interruptions().await,
            None => Interruptions::default(),
        })
    }

    fn network(&self) -> Outcome {
        let methods = self.repertoire.methods.iter();
        let wanted: BTreeSet<&str> = methods
            .flat_map(|method| method.programs().iter().copied())
            .collect();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let there = |name: &&str| std::env::split_paths(&path).any(|at| at.join(name).is_file());
        let programs = wanted.into_iter().filter(there).map(ToOwned::to_owned);
        Ok(Answer::Network(LaptopNetwork {
            address: snapshot::lan_address(),
            routes: routes()?,
            programs: programs.collect(),
        }))
    }

    fn find(&self, scenario: &str, id: &str) -> Result<(&dyn Scenario, &'static Probe), Error> {
        let asked = self.repertoire.scenario(scenario);
        let asked = asked.ok_or_else(|| format!("there is no scenario `{scenario}`"))?;
        let found = asked.probes().iter().find(|probe| probe.id == id);
        let found = found.ok_or_else(|| format!("scenario `{scenario}` has no probe `{id}`"))?;
        Ok((asked, found))
    }

    async fn attempt(
        &self,
        scenario: &str,
        id: &str,
        access: Access,
        workload: &Workload,
    ) -> Outcome {
        let (asked, found) = self.find(scenario, id)?;
        let attempt = probe::attempt(found, asked, access, workload).await;
        Ok(Answer::Attempted(attempt))
    }

    /// A route of its own for a network, by the office's router.
    async fn overlap(&mut self, network: Option<Ipv4Net>) -> Outcome {
        let links = Connection::<Route>::new()?;
        let route = |(network, router): (Ipv4Net, Ipv4Addr)| {
            Ipv4Route::from_addr(network.network(), network.prefix_len()).gateway(router)
        };
        if let Some(before) = self.overlap.take() {
            links.del_route(route(before)).await?;
        }
        if let Some(network) = network {
            let routes = links.get_routes().await?;
            let by_default = routes.iter().filter(|it| it.is_ipv4() && it.is_default());
            let router = by_default.filter_map(|it| it.gateway()).next();
            let Some(IpAddr::V4(router)) = router.copied() else {
                return Err("this laptop has no router".into());
            };
            links.add_route(route((network, router))).await?;
            self.overlap = Some((network, router));
        }
        Ok(Answer::Done)
    }

    async fn probe(
        &self,
        scenario: &str,
        id: &str,
        method: &MethodId,
        accesses: &[Access],
        workload: &Workload,
    ) -> Outcome {
        let (asked, found) = self.find(scenario, id)?;
        let through = self.repertoire.method(method);
        let through = through.ok_or_else(|| format!("there is no method `{method}`"))?;
        Ok(Answer::Probed(
            probe::ask(found, asked, through, accesses, workload).await,
        ))
    }

    async fn measure(
        &self,
        scenario: String,
        load: LoadOrder,
        access: Access,
        workload: Workload,
    ) -> Outcome {
        let repertoire = self.repertoire.clone();
        let (sender, receiver) = oneshot::channel();
        // A plain thread, so that an agent told to stop need not wait for the load's end.
        std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let outcome = match repertoire.scenario(&scenario) {
                    Some(scenario) => scenario
                        .measure(&load, &Dialer::new(access), &workload)
                        .map_err(Error::from),
                    None => Err(format!("there is no scenario `{scenario}`").into()),
                };
                drop(sender.send(outcome));
            })?;
        let outcome = receiver
            .await
            .map_err(|_panicked| "the load's thread panicked")?;
        Ok(Answer::Measured(outcome?))
    }
}

type Outcome = Result<Answer, Error>;

/// Why an order was not carried out, or why an agent ended.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Tries until a TCP connection opens: what a user who waits for the tunnel does.
async fn reach(access: Access, host: &str, port: u16) -> Outcome {
    let dialer = Dialer::new(access);
    let started = clock::now();
    loop {
        match dialer.http(host, port).await {
            Ok(_stream) => return Ok(Answer::Done),
            Err(error) if started.elapsed() > REACH_LIMIT => return Err(error.into()),
            Err(_) => tokio::time::sleep(REACH_PAUSE).await,
        }
    }
}

/// Where nothing answers. All are knocked at together: a firewall may swallow what goes to every one.
async fn silent(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let knocking = addresses.iter().map(|address| answers(*address));
    let answered = join_all(knocking).await;
    let all = addresses.into_iter().zip(answered);
    all.filter_map(|(address, answered)| (!answered).then_some(address))
        .collect()
}

/// Whether anything answers: a refusal comes from there too.
async fn answers(address: SocketAddr) -> bool {
    let knocking = tokio::net::TcpStream::connect(address);
    match tokio::time::timeout(KNOCK_LIMIT, knocking).await {
        Ok(Ok(_stream)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_elapsed) => false,
    }
}

/// Of this process and what it has started: the connection may be the work of another program.
fn usage() -> Usage {
    let used = ProcessUsage::of_tree(std::process::id());
    Usage {
        cpu_s: used.cpu.as_secs_f64(),
        peak_bytes: used.peak_bytes,
    }
}

/// `RTF_REJECT` of route.h: the route leads nowhere.
const REJECT: u32 = 0x200;

/// The routes of this host's IPv4 table (proc_pid_net(5)), the default route, loopback and those that lead nowhere
/// apart.
fn routes() -> std::io::Result<Vec<ipnet::IpNet>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/route")?;
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |index: usize| -> Option<std::net::Ipv4Addr> {
            let raw = u32::from_str_radix(fields.get(index)?, 16).ok()?;
            Some(std::net::Ipv4Addr::from(raw.swap_bytes()))
        };
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let net = ipnet::Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
        (flags & REJECT == 0).then_some(net)
    });
    Ok(routes
        .filter(|net| net.prefix_len() > 0)
        .map(Into::into)
        .collect())
}
