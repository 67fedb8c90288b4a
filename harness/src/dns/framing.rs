//! Messages on a stream: each behind its length (RFC 1035 §4.2.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Reads one message, or nothing where the stream ends before it.
///
/// Not cancel-safe: what was read of a message is lost.
pub(super) async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// A message behind its length, in one piece: two writes would be two segments.
pub(super) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Ok(framed)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn next(bytes: &mut &[u8]) -> io::Result<Option<Vec<u8>>> {
        read_message(bytes).now_or_never().expect("all is there")
    }

    #[test]
    fn a_message_is_at_most_as_long_as_two_bytes_can_say() {
        assert!(framed(&[0; 65_535]).is_ok());
        assert!(framed(&[0; 65_536]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read_one_after_the_other_and_what_is_cut_is_an_error(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..5),
            cut: prop::sample::Index,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|it| framed(it).unwrap()).collect();
            let mut rest = &stream[..];
            for message in &messages {
                prop_assert_eq!(&next(&mut rest).unwrap().unwrap(), message);
            }
            prop_assert_eq!(next(&mut rest).unwrap(), None);

            let last = framed(&messages[0]).unwrap();
            let end = 1 + cut.index(last.len() - 1);
            prop_assert!(next(&mut &last[..end]).is_err());
        }
    }
}
