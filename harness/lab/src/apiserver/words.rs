//! Random and derived name parts, from the alphabet that Kubernetes uses: without vowels, so that no
//! word comes out, and without digits that look like letters.

use std::hash::{DefaultHasher, Hash, Hasher};

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `length` random characters: the end of a generated name.
pub(crate) fn random(length: usize) -> String {
    (0..length)
        .map(|_| pick(u64::from(rand::random::<u32>())))
        .collect()
}

/// Ten characters that depend on nothing but `value`: a template's hash.
pub(crate) fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    let mut rest = hasher.finish();
    let next = |_| {
        let character = pick(rest);
        rest /= ALPHABET.len() as u64;
        character
    };
    (0..10).map(next).collect()
}

/// A random (version 4) UUID.
pub(crate) fn uuid() -> String {
    let bits = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

fn pick(number: u64) -> char {
    let length = ALPHABET.len() as u64;
    let index = usize::try_from(number % length).expect("the remainder is below 27");
    char::from(ALPHABET[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_its_value_only() {
        assert_eq!(hash(&"a"), hash(&"a"));
        assert_ne!(hash(&"a"), hash(&"b"));
        assert_eq!(hash(&"a").len(), 10);
    }

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
        assert_ne!(uuid, super::uuid());
    }
}
