//! A stream of bytes that differ at every place, so that whatever is lost, repeated, moved or changed on the way
//! is seen, and where.
//!
//! It is made of pieces: each begins with its number, the rest is the same in all and repeats nothing.

use std::sync::LazyLock;

use bytes::Bytes;

/// The length of a piece, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// What a piece begins with, in bytes: its number, most significant byte first.
const NUMBER: usize = 8;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let byte = || {
        // Marsaglia's xorshift64: cheap, and the same everywhere.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(byte).take(PIECE).collect()
});

/// The pieces of a stream of `length` bytes, the last one cut.
pub(super) fn pieces(length: u64) -> impl Iterator<Item = Bytes> + Send {
    let whole = PIECE as u64;
    (0..length.div_ceil(whole)).map(move |number| {
        let mut piece = PATTERN.clone();
        piece[..NUMBER].copy_from_slice(&number.to_be_bytes());
        let left = length - number * whole;
        piece.truncate(usize::try_from(left).unwrap_or(PIECE).min(PIECE));
        Bytes::from(piece)
    })
}

/// Compares what comes with the stream.
#[derive(Debug, Default)]
pub(super) struct Check {
    length: u64,
    wrong: Option<u64>,
}

impl Check {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let number = self.length / PIECE as u64;
            let offset = usize::try_from(self.length % PIECE as u64).unwrap_or_default();
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - offset));
            let wrong = difference(now, number, offset);
            if let Some(wrong) = wrong.filter(|_| self.wrong.is_none()) {
                self.wrong = Some(self.length + wrong as u64);
            }
            self.length += now.len() as u64;
            bytes = later;
        }
    }

    /// Whether all `length` bytes came as they are.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn finish(&self, length: u64) -> Result<(), String> {
        match self.wrong {
            Some(place) => Err(format!("byte {place} is another one")),
            None if self.length == length => Ok(()),
            None => Err(format!("{} bytes came of {length}", self.length)),
        }
    }
}

/// Where `bytes`, from `offset` of the piece `number`, differ first.
fn difference(bytes: &[u8], number: u64, offset: usize) -> Option<usize> {
    let number = number.to_be_bytes();
    let head = number.get(offset..).unwrap_or_default();
    let (first, rest) = bytes.split_at(bytes.len().min(head.len()));
    let pattern = &PATTERN[offset + first.len()..][..rest.len()];
    // Comparing whole slices is what the processor is quick at; the place matters only if there is one.
    if *first == head[..first.len()] && *rest == *pattern {
        return None;
    }
    let wanted = head[..first.len()].iter().chain(pattern);
    bytes.iter().zip(wanted).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(length: u64) -> Vec<u8> {
        pieces(length).flatten().collect()
    }

    fn check(bytes: &[u8], cuts: usize, length: u64) -> Result<(), String> {
        let mut check = Check::default();
        bytes.chunks(cuts).for_each(|part| check.take(part));
        check.finish(length)
    }

    #[test]
    fn a_piece_that_is_missing_or_moved_is_seen() {
        let length = 3 * PIECE as u64;
        let right = stream(length);
        assert_eq!(right.len(), 3 * PIECE);
        assert_eq!(check(&right, 1000, length), Ok(()));
        let (first, rest) = right.split_at(PIECE);
        let moved = [rest, first].concat();
        assert_eq!(
            check(&moved, 1000, length),
            Err("byte 7 is another one".to_owned())
        );
        assert!(
            check(rest, 1000, length).is_err(),
            "the first piece is missing"
        );
        let short = &right[..2 * PIECE];
        assert!(
            check(short, 1000, length)
                .unwrap_err()
                .contains("bytes came of")
        );
    }

    proptest! {
        #[test]
        fn it_is_right_however_it_is_cut_and_any_change_is_found(
            length in 1_u64..200_000,
            cuts in 1_usize..100_000,
            place: prop::sample::Index,
            flip in 1_u8..=255,
        ) {
            let mut bytes = stream(length);
            prop_assert_eq!(bytes.len() as u64, length);
            prop_assert_eq!(check(&bytes, cuts, length), Ok(()));
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            prop_assert_eq!(check(&bytes, cuts, length), Err(format!("byte {place} is another one")));
        }
    }
}
