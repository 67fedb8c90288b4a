//! Many connections at once through each method, by a client that is not ours: this test program itself,
//! run on the laptop, with nothing but the standard library's sockets.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::program::{Program, turn};
use crate::shell::forwarded;

/// Connections that are open at the same time.
const CONNECTIONS: usize = 500;

/// Requests on each, one after the other.
const REQUESTS: usize = 4;

/// Threads that open and use them.
const THREADS: usize = 25;

/// The body of every answer has this size, in bytes.
const BODY: usize = 128;

/// Where the test of the outside tells the client how to go.
const TO: &str = "INROADS_TEST_TO";

/// Longest time that one read may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn five_hundred_connections_at_once_all_work() {
    let _turn = turn();
    let client = env::current_exe().unwrap();
    let client = client.to_str().unwrap();
    for method in ["forward", "route", "socks", "wireguard"] {
        let program = Program::new();
        let words = ["shell", method, "--", client, "--exact", "many::client"];
        let mut command = program.command(&words);
        command.args(["--ignored", "--nocapture"]);
        command.env(
            TO,
            if method == "forward" {
                "at"
            } else {
                "web.inroads.svc.cluster.local:80"
            },
        );
        let mut running = program.start_command(command);
        if method == "forward" {
            let at = forwarded(&mut running);
            fs::write(program.home().join("new"), at).unwrap();
            fs::rename(program.home().join("new"), program.home().join("at")).unwrap();
        }
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{method}: {}{}", ended.out, ended.err);
        let done = format!(
            "{CONNECTIONS} connections, {} answers",
            CONNECTIONS * REQUESTS
        );
        assert!(ended.out.contains(&done), "{method}: {}", ended.out);
    }
}

#[test]
#[ignore = "needs a laptop: the test above runs it there"]
fn client() {
    let to = env::var(TO).unwrap();
    let to = if to == "at" {
        while !fs::exists("at").unwrap() {
            crate::program::pause();
        }
        fs::read_to_string("at").unwrap()
    } else {
        to
    };
    let proxy = env::var("ALL_PROXY").ok();
    let work = || {
        let open = || connect(&to, proxy.as_deref());
        let mut streams: Vec<TcpStream> = (0..CONNECTIONS / THREADS).map(|_| open()).collect();
        for _ in 0..REQUESTS {
            // All ask before any answer is read, so that all are at work.
            for stream in &mut streams {
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
                    .unwrap();
            }
            for stream in &mut streams {
                read_answer(stream);
            }
        }
        streams
    };
    let open: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        // Kept open until the last has done its part.
        let streams: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        streams.iter().map(Vec::len).sum()
    });
    println!("{open} connections, {} answers", open * REQUESTS);
}

/// A connection to `to`, through a proxy `socks5h://USER:PASSWORD@HOST:PORT` (RFC 1928, RFC 1929) if there is one.
fn connect(to: &str, proxy: Option<&str>) -> TcpStream {
    let Some(proxy) = proxy else {
        return patient(TcpStream::connect(to).unwrap());
    };
    let (user, at) = proxy
        .strip_prefix("socks5h://")
        .unwrap()
        .split_once('@')
        .unwrap();
    let (user, password) = user.split_once(':').unwrap();
    let mut stream = patient(TcpStream::connect(at).unwrap());
    let byte = |length: usize| u8::try_from(length).unwrap();
    let mut exchange = |order: &[u8], answer: &mut [u8]| {
        stream.write_all(order).unwrap();
        stream.read_exact(answer).unwrap();
    };
    let mut two = [0; 2];
    exchange(&[5, 1, 2], &mut two);
    assert_eq!(two, [5, 2], "it takes a user and a password");
    let mut credentials = vec![1, byte(user.len())];
    credentials.extend(user.bytes());
    credentials.push(byte(password.len()));
    credentials.extend(password.bytes());
    exchange(&credentials, &mut two);
    assert_eq!(two[1], 0, "it knows the user");
    let (host, port) = to.split_once(':').unwrap();
    let mut order = vec![5, 1, 0, 3, byte(host.len())];
    order.extend(host.bytes());
    order.extend(port.parse::<u16>().unwrap().to_be_bytes());
    let mut reply = [0; 10];
    exchange(&order, &mut reply);
    assert_eq!(reply[..4], [5, 0, 0, 1], "connected, from an IPv4 address");
    stream
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one whole answer, and nothing after it.
fn read_answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "ended after {} bytes", answer.len());
        answer.extend_from_slice(&piece[..count]);
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
            if answer.len() >= head + 4 + BODY {
                assert_eq!(answer.len(), head + 4 + BODY);
                return;
            }
        }
    }
}
