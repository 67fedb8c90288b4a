//! What relays add to a connection over loopback: bytes to a server that sends them back, straight (the control),
//! through the SOCKS server, and through a port-forward's listener, which puts them into WebSocket messages and takes
//! them out again.
//!
//! All ends are in this process, on one runtime, so a figure is the whole path's: the relay's own share is what it
//! takes beyond the control. The API server and the kubelet are a stand-in without TLS, whose half of the framing, by
//! the same library as the listener's, is in the figure of `forward`.

use std::error::Error;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::{SinkExt as _, StreamExt as _};
use inroads_harness::access::{Access, Secret};
use inroads_harness::dial::Dialer;
use inroads_harness::method::{Connection, Invitation};
use inroads_harness::scenario::{Object, Target};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Bytes that go and come back: a small request, less than a relay's buffer, and much more.
const SIZES: [usize; 3] = [1 << 10, 64 << 10, 1 << 20];

/// What the port-forward's listener stands in for.
const POD: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 0, 2), 8080);

/// Longest time until a relay that was just started carries bytes.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Why a way cannot be set up.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let runtime = Runtime::new()?;
    let echo = runtime.block_on(listen(echo))?;
    let socks = runtime.block_on(socks())?;
    let forward = runtime.block_on(forward())?;
    let [forwarded] = forward.accesses().try_into().expect("it gives one");
    let ways = [
        ("straight", Access::Unmodified, echo),
        ("socks", socks, echo),
        ("forward", forwarded, POD.into()),
    ];
    let mut group = criterion.benchmark_group("relay");
    for size in SIZES {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        let mut back = vec![0; size];
        group.throughput(Throughput::Bytes(2 * size as u64));
        for (name, access, to) in &ways {
            let mut stream = runtime.block_on(carrying(access, *to))?;
            back.fill(0);
            runtime.block_on(round_trip(&mut stream, &bytes, &mut back));
            assert_eq!(back, bytes, "by way of {name}");
            group.bench_function(BenchmarkId::new(*name, size), |bencher| {
                bencher.iter(|| {
                    runtime.block_on(round_trip(&mut stream, black_box(&bytes), &mut back));
                    black_box(&back);
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Sends all of `bytes` and reads as many into `back`, both at once: no relay has room for a large one.
async fn round_trip(stream: &mut TcpStream, bytes: &[u8], back: &mut [u8]) {
    let (mut reader, mut writer) = stream.split();
    let both = tokio::try_join!(writer.write_all(bytes), reader.read_exact(back));
    both.expect("the connection holds");
}

/// A connection that has carried a byte there and back. What it leads through may have to start first.
async fn carrying(access: &Access, to: SocketAddr) -> Result<TcpStream, Failure> {
    let dialer = Dialer::new(access.clone());
    let trying = async {
        loop {
            if let Ok(mut stream) = dialer.tcp(&to.ip().to_string(), to.port()).await
                && stream.write_all(b"?").await.is_ok()
                && matches!(stream.read_u8().await, Ok(b'?'))
            {
                return stream;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let stream = timeout(START_LIMIT, trying).await;
    stream.map_err(|_elapsed| format!("nothing came back by way of {access:?}").into())
}

/// Starts a server on loopback that handles each connection with `handle`.
async fn listen<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> Result<SocketAddr, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            // Without: 40 ms for a delayed acknowledgement, as our relays know.
            if stream.set_nodelay(true).is_ok() {
                tokio::spawn(handle(stream));
            }
        }
    });
    Ok(address)
}

/// Sends back what comes.
async fn echo(mut stream: TcpStream) -> Result<(), Failure> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

/// The SOCKS server as a pod has it.
async fn socks() -> Result<Access, Failure> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let proxy = free.local_addr()?;
    drop(free);
    let mut roles = inroads_methods::roles().into_iter();
    let role = roles.find(|role| role.name == "socks-server");
    let arguments =
        format!("--listen={proxy} --advertise-udp={proxy} --username=bench --password=bench");
    let arguments = arguments.split(' ').map(str::to_owned).collect();
    tokio::spawn((role.ok_or("there is no SOCKS server")?.run)(arguments));
    Ok(Access::Socks5 {
        proxy,
        username: "bench".to_owned(),
        password: Secret::new("bench".to_owned()),
    })
}

/// A laptop connected by `forward` to the stand-in.
async fn forward() -> Result<Box<dyn Connection>, Failure> {
    let api_server = listen(kubelet).await?;
    let mut methods = inroads_methods::all().into_iter();
    let method = methods.find(|method| method.id().as_str() == "forward");
    let target = Target {
        object: Object::Pod("echo".to_owned()),
        hosts: vec![POD.0.to_string()],
        port: POD.1,
    };
    let invitation = Invitation::pack(&json!({
        "api_server": format!("http://{api_server}"),
        "ca": "",
        "token": "",
        "namespace": "inroads",
        "targets": [target],
    }));
    Ok(method
        .ok_or("there is no forward")?
        .connect(invitation)
        .await?)
}

/// Serves a port-forward of [`POD`]: a WebSocket of the subprotocol `v4.channel.k8s.io`, whose messages begin with their
/// channel. Data goes back as it came, on its channel.
async fn kubelet(stream: TcpStream) -> Result<(), Failure> {
    const DATA: u8 = 0;
    const ERROR: u8 = 1;
    #[expect(clippy::result_large_err, reason = "it is tungstenite's to choose")]
    let agree = |_request: &Request, mut response: Response| {
        let protocol = "v4.channel.k8s.io".parse().expect("it is a header's value");
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, agree).await?;
    let [low, high] = POD.1.to_le_bytes();
    for channel in [DATA, ERROR] {
        let greeting = Message::binary(vec![channel, low, high]);
        socket.send(greeting).await?;
    }
    while let Some(message) = socket.next().await {
        if let message @ Message::Binary(_) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}
