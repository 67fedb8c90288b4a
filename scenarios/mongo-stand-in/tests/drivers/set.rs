//! A set of three members in this process, each on a loopback address of its own. A member that is killed is gone
//! with its connections and its data; started again it is a new one at the old address.

use std::net::SocketAddr;
use std::time::Duration;

use bson::{Document, doc};
use inroads_mongo_stand_in::wire::{self, Body};
use inroads_mongo_stand_in::{Config, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Short, so that tests are, and long enough for a busy machine.
const HEARTBEAT: Duration = Duration::from_millis(200);
pub(crate) const ELECTION: Duration = Duration::from_millis(1_500);

/// Longest time for anything here.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Set {
    pub(crate) addresses: Vec<SocketAddr>,
    members: Vec<Option<JoinHandle<()>>>,
}

impl Set {
    /// A set that has a primary.
    pub(crate) async fn start() -> Self {
        let mut listeners = Vec::new();
        for number in 1..=3u8 {
            let at = SocketAddr::from(([127, 0, 0, number], 0));
            listeners.push(TcpListener::bind(at).await.unwrap());
        }
        let addresses: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let mut set = Self {
            addresses,
            members: Vec::new(),
        };
        for (number, listener) in listeners.into_iter().enumerate() {
            let member = set.member(number, listener);
            set.members.push(Some(member));
        }
        set.primary().await;
        set
    }

    fn member(&self, number: usize, listener: TcpListener) -> JoinHandle<()> {
        let names: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let me = names[number].clone();
        let config = Config::new("rs0", names, &me).unwrap();
        let config = config.with_times(HEARTBEAT, ELECTION).unwrap();
        tokio::spawn(Node::new(config).serve(listener))
    }

    pub(crate) async fn kill(&mut self, number: usize) {
        let member = self.members[number].take().unwrap();
        member.abort();
        assert!(member.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn start_again(&mut self, number: usize) {
        let address = self.addresses[number];
        let listener = until("the address is free", async || {
            TcpListener::bind(address).await.ok()
        });
        let listener = listener.await;
        self.members[number] = Some(self.member(number, listener));
    }

    pub(crate) fn uri(&self) -> String {
        let hosts: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }

    /// The number of the primary that all living members agree on.
    pub(crate) async fn primary(&self) -> usize {
        let agreed = until("all have one primary", async || {
            let mut found = None;
            for (number, member) in self.members.iter().enumerate() {
                if member.is_none() {
                    continue;
                }
                let hello = ask(self.addresses[number], doc! { "hello": 1 }).await?;
                let primary = hello.get_str("primary").ok()?.to_owned();
                if found.get_or_insert(primary.clone()) != &primary {
                    return None;
                }
            }
            let primary = found?;
            let addresses = self.addresses.iter();
            let number = addresses
                .map(ToString::to_string)
                .position(|at| at == primary)?;
            // A member that was killed may still be what others remember.
            self.members[number].as_ref().map(|_lives| number)
        });
        agreed.await
    }

    /// What the member `number` answers.
    pub(crate) async fn ask(&self, number: usize, command: Document) -> Document {
        ask(self.addresses[number], command).await.unwrap()
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.members.iter().flatten().for_each(JoinHandle::abort);
    }
}

/// Waits until `found` gives something.
pub(crate) async fn until<T>(what: &str, found: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks one command over a connection of its own, of the database `admin` where it names none.
async fn ask(address: SocketAddr, command: Document) -> Option<Document> {
    let mut wire = Wire::connect(address).await?;
    wire.send(&command).await?;
    wire.receive().await.map(|(document, _)| document)
}

/// A connection by hand.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).await.ok().map(Self)
    }

    pub(crate) async fn send(&mut self, command: &Document) -> Option<()> {
        let mut command = command.clone();
        if !command.contains_key("$db") {
            command.insert("$db", "admin");
        }
        let bytes = wire::write(1, 0, &command, false).unwrap();
        self.0.write_all(&bytes).await.ok()
    }

    /// The next answer, and whether another follows it.
    pub(crate) async fn receive(&mut self) -> Option<(Document, bool)> {
        let message = timeout(LIMIT, self.message()).await.unwrap()?;
        match message.body {
            Body::Msg {
                document,
                more_to_come,
                ..
            } => Some((document, more_to_come)),
            Body::Reply { document } => Some((document, false)),
            Body::Query { .. } => None,
        }
    }

    async fn message(&mut self) -> Option<wire::Message> {
        let mut start = [0; 4];
        self.0.read_exact(&mut start).await.ok()?;
        let length = wire::length(start).unwrap();
        let mut bytes = start.to_vec();
        bytes.resize(length, 0);
        self.0.read_exact(&mut bytes[4..]).await.ok()?;
        Some(wire::read(&bytes).unwrap())
    }
}
