//! Asking through the resolver beside asking the cluster's DNS directly, both over a wire.

use std::net::UdpSocket as StdUdpSocket;
use std::thread;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc as channel;

use super::*;

/// How long each cell is, and how often each is measured.
const SPAN: Duration = Duration::from_millis(600);
const ROUNDS: usize = 7;

#[expect(clippy::print_stdout, reason = "its figures are its result")]
pub(super) fn compare() {
    let _links = block_on(async {
        let links = plug_in().await;
        links.add_route(route()).await.unwrap();
        links
    });
    let resolver = Resolver::start();
    for window in [1, 16, 64] {
        let mut cells = Vec::new();
        for _ in 0..ROUNDS {
            let direct = ask_for(SPAN, (CLUSTER_DNS, 53).into(), window);
            let before = resolver.cpu_time();
            let through = ask_for(SPAN, resolver.address, window);
            let cpu_time = (resolver.cpu_time() - before).div_f64(through * SPAN.as_secs_f64());
            cells.push([
                direct,
                through,
                through / direct,
                cpu_time.as_secs_f64() * 1e6,
            ]);
        }
        let [direct, through, ratio, cpu_us] = [0, 1, 2, 3].map(|column| median(&cells, column));
        println!(
            "measured: {window:2} open: direct {direct:7.0}/s, through {through:7.0}/s, \
             ratio {ratio:.2} (medians of {ROUNDS}), {cpu_us:.1} us of CPU each"
        );
    }
}

/// A resolver on a thread of its own.
struct Resolver {
    address: SocketAddr,
    cpu_time: channel::UnboundedSender<mpsc::Sender<Duration>>,
}

impl Resolver {
    fn start() -> Self {
        let (started, address) = mpsc::channel();
        let (cpu_time, mut asked) = channel::unbounded_channel::<mpsc::Sender<Duration>>();
        thread::spawn(move || {
            block_on(async {
                let resolver = resolver();
                started.send(resolver.address()).unwrap();
                while let Some(asking) = asked.recv().await {
                    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
                    asking.send(spent.into()).unwrap();
                }
            });
        });
        Self {
            address: address.recv().unwrap(),
            cpu_time,
        }
    }

    fn cpu_time(&self) -> Duration {
        let (answer, answered) = mpsc::channel();
        self.cpu_time.send(answer).unwrap();
        answered.recv().unwrap()
    }
}

/// Asks with `window` questions open at all times, and returns the answers per second.
fn ask_for(span: Duration, server: SocketAddr, window: usize) -> f64 {
    let socket = StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let query = question("web.default.svc.cluster.local.");
    for _ in 0..window {
        socket.send(&query).unwrap();
    }
    let stopwatch = Stopwatch::start();
    let mut answers = 0_u32;
    let mut buffer = [0; 512];
    while stopwatch.elapsed() < span {
        socket.recv(&mut buffer).unwrap();
        socket.send(&query).unwrap();
        answers += 1;
    }
    f64::from(answers) / stopwatch.elapsed().as_secs_f64()
}

fn median(cells: &[[f64; 4]], column: usize) -> f64 {
    let mut values: Vec<f64> = cells.iter().map(|cell| cell[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
