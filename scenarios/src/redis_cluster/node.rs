//! What one node of a Redis Cluster says of the cluster: `CLUSTER NODES`, `CLUSTER INFO`, `INFO replication`.

use std::ops::RangeInclusive;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, cmd};
use tokio::net::TcpStream;

use super::slots::SLOTS;

/// A line of `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// 40 hexadecimal digits.
    pub(super) id: String,
    /// `IP:PORT` as clients are sent to; empty where it is not known yet.
    pub(super) address: String,
    /// Whether it is the node that was asked.
    pub(super) myself: bool,
    /// Whether it is still being introduced.
    pub(super) handshake: bool,
    /// The node that it follows; none where it is a master.
    pub(super) master: Option<String>,
    /// Its configuration epoch.
    pub(super) epoch: u64,
    /// The slots that it serves.
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

impl Member {
    /// How many slots it serves.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.iter().map(ExactSizeIterator::len).sum()
    }

    pub(super) fn serves(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

/// Reads `CLUSTER NODES`: `ID IP:PORT@BUS[,HOST] FLAGS MASTER PING PONG EPOCH LINK [SLOT…]`. Slots that are
/// being moved (in brackets) are left out: they are still served.
pub(super) fn parse_members(text: &str) -> Result<Vec<Member>, String> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_member(line).ok_or_else(|| format!("`{line}` is no line of CLUSTER NODES"))
        })
        .collect()
}

fn parse_member(line: &str) -> Option<Member> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let (id, address, flags, master) = (next()?, next()?, next()?, next()?);
    let (_ping, _pong, epoch, _link) = (next()?, next()?, next()?, next()?);
    let (address, _bus) = address.split_once('@').unwrap_or((address, ""));
    let flags: Vec<&str> = flags.split(',').collect();
    let slots = fields.filter(|word| !word.starts_with('['));
    Some(Member {
        id: id.to_owned(),
        address: address.to_owned(),
        myself: flags.contains(&"myself"),
        handshake: flags.contains(&"handshake"),
        master: (master != "-").then(|| master.to_owned()),
        epoch: epoch.parse().ok()?,
        slots: slots.map(parse_range).collect::<Option<_>>()?,
    })
}

fn parse_range(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty() && *range.end() < SLOTS).then_some(range)
}

/// The value of `key` in lines of `key:value`, as `INFO` and `CLUSTER INFO` have them.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .find_map(|(name, value)| (name == key).then_some(value))
}

/// A connection to one node alone, over a stream that is open. What a client of a cluster needs not: it is for
/// asking a node what it thinks.
pub(super) async fn connect(stream: TcpStream) -> Result<MultiplexedConnection, RedisError> {
    let login = RedisConnectionInfo::default();
    let config = AsyncConnectionConfig::new();
    let connecting = MultiplexedConnection::new_with_config(&login, stream, config);
    let (connection, driver) = connecting.await?;
    // It ends with the connection.
    drop(tokio::spawn(driver));
    Ok(connection)
}

/// All members of the cluster, as the node behind `connection` sees them.
pub(super) async fn members(connection: &mut MultiplexedConnection) -> Result<Vec<Member>, String> {
    let said: Result<String, RedisError> =
        cmd("CLUSTER").arg("NODES").query_async(connection).await;
    parse_members(&said.map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODES: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 10.244.1.4:6379@16379 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected\n\
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 10.244.2.2:6379@16379,redis-1 master - 0 1426238316232 2 connected 5461-10922 [93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]\n\
824fe116063bc5fcf9f4ffd895bc17aee7731ac3 :0@0 handshake,noaddr - 1426238317741 1426238316232 0 disconnected\n\
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 10.244.1.2:6379@16379 myself,master - 0 0 1 connected 0-5459 5460\n";

    #[test]
    fn members_are_read_with_their_slots_and_masters() {
        let members = parse_members(NODES).unwrap();
        assert_eq!(members.len(), 4);
        let (replica, migrating, stranger, own) =
            (&members[0], &members[1], &members[2], &members[3]);
        assert_eq!(replica.master.as_deref(), Some(own.id.as_str()));
        assert_eq!(migrating.slots, [5461..=10922]);
        assert_eq!(migrating.address, "10.244.2.2:6379");
        assert!(stranger.handshake && stranger.slots.is_empty());
        assert!(own.myself && own.master.is_none());
        assert_eq!(own.slots, [0..=5459, 5460..=5460]);
        assert_eq!((own.slot_count(), own.epoch), (5461, 1));
        assert!(own.serves(5460) && !own.serves(5461));
    }

    #[test]
    fn what_is_no_list_of_nodes_is_an_error_that_shows_it() {
        for text in ["hello", "a b c d e f g h", "a b:1@2 master - 0 0 1 ok 7-3"] {
            let error = parse_members(text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(parse_members(""), Ok(Vec::new()));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\nmaster_link:no\r\n";
        assert_eq!(field(info, "master_link_status"), Some("up"));
        assert_eq!(field(info, "master"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in "\\PC*",
            slots in "[0-9 \\[-]{0,30}",
            address in "[0-9.:@,a-z]{0,20}",
        ) {
            let line = format!("id {address} myself,master - 0 0 1 connected {slots}");
            for text in [text, line] {
                if let Ok(members) = parse_members(&text) {
                    let served = members.iter().flat_map(|member| &member.slots);
                    prop_assert!(served.into_iter().all(|range| *range.end() < SLOTS));
                }
                let _ = field(&text, "role");
            }
        }
    }
}
