//! The split resolver on a laptop whose way into the cluster comes and goes. No rights are needed: the test
//! runs itself again in namespaces of its own.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod throughput;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use inroads_harness::clock::Stopwatch;
use inroads_harness::dns::{Reply, Server, Sockets};
use inroads_methods::split_dns::{Listen, SplitDns, SplitDnsConfig};
use nix::sched::{CloneFlags, unshare};
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::VethLink;
use nlink::netlink::namespace::Netns;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const LAPTOP: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 101);
const ON_THE_TUNNEL: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 201);
const OFFICE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 53);
const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

const LIMIT: Duration = Duration::from_secs(5);

const AT_ONCE: Duration = Duration::from_millis(500);

#[test]
fn the_way_into_the_cluster_comes_goes_and_changes() {
    inside("the_way_into_the_cluster_comes_goes_and_changes", || {
        block_on(come_go_and_change());
    });
}

/// Run it with `cargo test -p inroads-methods --test split_dns -- --ignored --nocapture`.
#[test]
#[ignore = "measures for half a minute, and asserts nothing that a busy machine could not refute"]
fn what_the_resolver_costs() {
    inside("what_the_resolver_costs", throughput::compare);
}

/// Runs `body`, the body of the test `name`, in a child with namespaces of its own.
fn inside(name: &str, body: impl FnOnce()) {
    const INSIDE: &str = "INROADS_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let isolated = |program: &OsStr| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]);
        command.arg(program);
        command
    };
    let possible = isolated("true".as_ref()).output();
    if !possible.is_ok_and(|tried| tried.status.success()) {
        note("skipped: no user namespaces on this machine, or no `unshare` (Debian: util-linux)");
        return;
    }
    let test = std::env::current_exe().unwrap();
    let mut child = isolated(test.as_os_str());
    child.args([name, "--exact", "--include-ignored", "--nocapture"]);
    let output = child.env(INSIDE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    for line in text.lines().filter(|line| line.starts_with("measured")) {
        note(line);
    }
}

/// Past the test harness, which keeps what `println` says of a test that passes.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn come_go_and_change() {
    let links = plug_in().await;
    let resolver = resolver();
    let laptop = Laptop {
        resolver: resolver.address(),
    };

    laptop.reaches_the_office().await;
    laptop.fails_at_once().await;
    for _ in 0..3 {
        links.add_route(route().prefsrc(LAPTOP)).await.unwrap();
        laptop.reaches_the_cluster_from(LAPTOP).await;
        // What was connected before keeps its address; what is asked later must not.
        links
            .replace_route(route().prefsrc(ON_THE_TUNNEL))
            .await
            .unwrap();
        let stopwatch = Stopwatch::start();
        while laptop.source().await.unwrap() != ON_THE_TUNNEL {
            assert!(
                stopwatch.elapsed() < Duration::from_secs(2),
                "the old address stays"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        laptop.reaches_the_cluster_from(ON_THE_TUNNEL).await;
        links.del_route(route()).await.unwrap();
        laptop.fails_at_once().await;
        laptop.reaches_the_office().await;
    }
    resolver.shutdown().await;
}

/// Makes this namespace a laptop on the office's LAN.
async fn plug_in() -> Connection<Route> {
    let far_side = far_side();
    let links = Connection::<Route>::new().unwrap();
    links.set_link_up("lo").await.unwrap();
    let wire = VethLink::new("eth0", "eth0").peer_netns_fd(&far_side.namespace);
    links.add_link(wire).await.unwrap();
    for address in [LAPTOP, ON_THE_TUNNEL] {
        let address = Ipv4Address::new("eth0", address, 24);
        links.add_address(address).await.unwrap();
    }
    links.set_link_up("eth0").await.unwrap();
    far_side.plugged_in.send(()).unwrap();
    far_side.serving.recv().unwrap();
    links
}

/// The way into the cluster.
fn route() -> Ipv4Route {
    Ipv4Route::new(Ipv4Addr::new(10, 96, 0, 0), 12).gateway(OFFICE)
}

fn resolver() -> SplitDns {
    SplitDns::start(SplitDnsConfig {
        listen: Listen::On((Ipv4Addr::LOCALHOST, 0).into()),
        domains: vec!["cluster.local".to_owned()],
        networks: vec![],
        cluster: vec![(CLUSTER_DNS, 53).into()],
        office: vec![(OFFICE, 53).into()],
    })
    .unwrap()
}

/// The laptop, as its programs see DNS.
struct Laptop {
    resolver: SocketAddr,
}

impl Laptop {
    async fn reaches_the_office(&self) {
        let answer = self.ask("intranet.office.test.").await;
        assert_eq!(answer.answers.len(), 1);
    }

    async fn reaches_the_cluster_from(&self, address: Ipv4Addr) {
        assert_eq!(self.source().await, Ok(address));
        let over_tcp = self.ask_tcp("web.default.svc.cluster.local.").await;
        assert_eq!(source(&over_tcp), Ok(address));
    }

    async fn fails_at_once(&self) {
        let stopwatch = Stopwatch::start();
        assert_eq!(self.source().await, Err(ResponseCode::ServFail));
        let over_tcp = self.ask_tcp("web.default.svc.cluster.local.").await;
        assert_eq!(source(&over_tcp), Err(ResponseCode::ServFail));
        assert!(
            stopwatch.elapsed() < AT_ONCE,
            "took {:?}",
            stopwatch.elapsed()
        );
    }

    /// The address that the cluster's DNS was asked from.
    async fn source(&self) -> Result<Ipv4Addr, ResponseCode> {
        source(&self.ask("web.default.svc.cluster.local.").await)
    }

    async fn ask(&self, name: &str) -> Message {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket
            .send_to(&question(name), self.resolver)
            .await
            .unwrap();
        let mut answer = [0; 512];
        let length = timeout(LIMIT, socket.recv(&mut answer))
            .await
            .unwrap()
            .unwrap();
        Message::from_vec(&answer[..length]).unwrap()
    }

    async fn ask_tcp(&self, name: &str) -> Message {
        let mut stream = TcpStream::connect(self.resolver).await.unwrap();
        let query = question(name);
        stream
            .write_u16(u16::try_from(query.len()).unwrap())
            .await
            .unwrap();
        stream.write_all(&query).await.unwrap();
        let length = timeout(LIMIT, stream.read_u16()).await.unwrap().unwrap();
        let mut answer = vec![0; length.into()];
        timeout(LIMIT, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

/// The far end of the wire: the office, and the cluster behind it.
struct FarSide {
    namespace: Netns,
    plugged_in: mpsc::Sender<()>,
    serving: mpsc::Receiver<()>,
}

fn far_side() -> FarSide {
    let (namespace, made) = mpsc::channel();
    let (plugged_in, waiting) = mpsc::channel();
    let (served, serving) = mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let own = File::open("/proc/thread-self/ns/net").unwrap();
        namespace.send(Netns::from_fd(own.into()).unwrap()).unwrap();
        waiting.recv().unwrap();
        block_on(serve_far_side(&served));
    });
    FarSide {
        namespace: made.recv().unwrap(),
        plugged_in,
        serving,
    }
}

/// Answers each question with the address that it came from.
async fn serve_far_side(served: &mpsc::Sender<()>) {
    let links = Connection::<Route>::new().unwrap();
    links.set_link_up("lo").await.unwrap();
    links
        .add_address(Ipv4Address::new("lo", CLUSTER_DNS, 32))
        .await
        .unwrap();
    links
        .add_address(Ipv4Address::new("eth0", OFFICE, 24))
        .await
        .unwrap();
    links.set_link_up("eth0").await.unwrap();
    let respond = |query: &[u8], reply: Reply| {
        let mut answer = Message::from_vec(query).unwrap();
        answer.metadata.message_type = MessageType::Response;
        let name = answer.queries[0].name().clone();
        let IpAddr::V4(client) = reply.client().ip() else {
            return;
        };
        answer.add_answer(Record::from_rdata(name, 5, RData::A(client.into())));
        reply.send(&answer.to_vec().unwrap());
    };
    let mut serving = Vec::new();
    for address in [CLUSTER_DNS, OFFICE] {
        let sockets = Sockets::bind((address, 53).into()).unwrap();
        serving.push(Server::start(sockets, Arc::new(respond)));
    }
    served.send(()).unwrap();
    std::future::pending::<()>().await;
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn source(answer: &Message) -> Result<Ipv4Addr, ResponseCode> {
    match answer.answers.first().map(|record| &record.data) {
        Some(RData::A(address)) => Ok(address.0),
        _ => Err(answer.metadata.response_code),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}
