//! Whole messages from a stream of bytes, with limits for who announces much and sends little.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::wire::{self, HEADER, Message, WireError};

/// Longest time from a message's first bytes to its last.
const WHOLE_LIMIT: Duration = Duration::from_secs(30);

/// A longer message counts as large, in bytes.
const LARGE: usize = 64 << 10;

/// The most large messages that are read at once where they are bounded, so that many clients which announce much
/// do not take all memory.
pub(crate) const MOST_LARGE: usize = 16;

/// How much memory is taken at once for what is announced but not there yet, in bytes.
const STEP: usize = 256 << 10;

/// No message could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FramingError {
    /// The connection broke, or ended within a message.
    #[error("reading a message")]
    Io(#[from] io::Error),
    /// What came is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The rest of a message did not come.
    #[error("the rest of a message did not come within {0:?}")]
    Slow(Duration),
}

/// Waits for the next message; `None` where the other side has ended between two messages. A large one waits for
/// its turn where `large` bounds them.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    large: Option<&Semaphore>,
) -> Result<Option<Message>, FramingError> {
    receive_within(stream, large, WHOLE_LIMIT).await
}

/// As [`receive`]; `limit` counts from a message's first bytes.
async fn receive_within(
    stream: &mut (impl AsyncRead + Unpin),
    large: Option<&Semaphore>,
    limit: Duration,
) -> Result<Option<Message>, FramingError> {
    let mut bytes = Vec::with_capacity(HEADER);
    // A client may be silent between two messages for as long as it likes.
    if stream.take(4).read_buf(&mut bytes).await? == 0 {
        return Ok(None);
    }
    let reading = async {
        fill(stream, &mut bytes, 4).await?;
        let length = wire::length([bytes[0], bytes[1], bytes[2], bytes[3]])?;
        let _turn = match large.filter(|_| length > LARGE) {
            Some(large) => large.acquire().await.ok(),
            None => None,
        };
        fill(stream, &mut bytes, length).await?;
        Ok(Some(wire::read(&bytes)?))
    };
    let read = timeout(limit, reading).await;
    read.unwrap_or(Err(FramingError::Slow(limit)))
}

/// Reads until there are `length` bytes. Memory grows with what comes.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: usize,
) -> io::Result<()> {
    while bytes.len() < length {
        let left = length - bytes.len();
        bytes.reserve(left.min(STEP));
        let limit = u64::try_from(left).unwrap_or(u64::MAX);
        if stream.take(limit).read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn messages_come_whole_whatever_the_pieces() {
        let document = doc! { "ping": 1, "text": "x".repeat(600_000) };
        let bytes = wire::write(5, 0, &document, false).unwrap();
        let (mut ours, mut theirs) = tokio::io::duplex(10_000);
        let sending = tokio::spawn(async move {
            for piece in [&bytes[..3], &bytes[3..17], &bytes[17..], &bytes] {
                theirs.write_all(piece).await.unwrap();
            }
        });
        for _ in 0..2 {
            assert_eq!(receive(&mut ours, None).await.unwrap().unwrap().id, 5);
        }
        assert!(receive(&mut ours, None).await.unwrap().is_none(), "the end");
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn an_announced_length_takes_no_memory_and_no_more_than_its_time() {
        let (mut ours, mut theirs) = tokio::io::duplex(100);
        theirs
            .write_all(&30_000_000i32.to_le_bytes())
            .await
            .unwrap();
        let soon = Duration::from_millis(50);
        let error = receive_within(&mut ours, None, soon).await.unwrap_err();
        assert!(matches!(error, FramingError::Slow(_)), "{error}");
        theirs.write_all(&i32::MAX.to_le_bytes()).await.unwrap();
        let error = receive(&mut ours, None).await.unwrap_err();
        assert!(
            matches!(error, FramingError::Wire(WireError::Length(_))),
            "{error}"
        );
        theirs.write_all(&[16, 0]).await.unwrap();
        drop(theirs);
        let error = receive(&mut ours, None).await.unwrap_err();
        assert!(matches!(error, FramingError::Io(_)), "{error}");
    }

    #[tokio::test]
    async fn a_large_message_waits_for_its_turn_and_a_small_one_does_not() {
        let soon = Duration::from_millis(50);
        let none_free = Semaphore::new(0);
        for (text, comes) in [("small".to_owned(), true), ("x".repeat(LARGE), false)] {
            let bytes = wire::write(1, 0, &doc! { "text": text }, false).unwrap();
            let (mut ours, mut theirs) = tokio::io::duplex(LARGE * 2);
            theirs.write_all(&bytes).await.unwrap();
            let read = receive_within(&mut ours, Some(&none_free), soon).await;
            assert_eq!(read.is_ok(), comes);
        }
    }

    proptest! {
        #[test]
        fn a_message_is_read_whatever_follows_it(
            length in prop::option::of(-1..80_i32),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = wire::write(5, 0, &doc! { "ping": 1 }, false).unwrap();
            bytes.extend(length.map(i32::to_le_bytes).into_iter().flatten());
            bytes.extend(rest);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(async {
                let mut stream = &bytes[..];
                assert_eq!(receive(&mut stream, None).await.unwrap().unwrap().id, 5);
                // What it is, is told: nothing waits for more once the stream has ended.
                while let Ok(Some(_)) = receive(&mut stream, None).await {}
            });
        }
    }
}
