//! Names that appear on the command line, in files and in results, checked once when they come in.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way in, optionally with a variant behind a colon: `forward`, `forward:proxy`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct MethodId(String);

/// The text is not a method's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no method name\n(hint: a name is lower-case words joined by `-`, with at most one `:variant`)"
)]
pub struct BadMethodId(String);

impl MethodId {
    /// The id of a method that this program itself defines.
    ///
    /// # Panics
    /// Where `id` is no valid name: a mistake in the source, found by any test that lists the methods.
    #[must_use]
    pub fn of(id: &'static str) -> Self {
        id.parse().expect("a method's own id is well formed")
    }

    /// The name, `forward:proxy`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its variant, `forward`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0
            .split_once(':')
            .map_or(self.as_str(), |(base, _)| base)
    }

    /// The name as part of a Kubernetes object's or a host's name: `forward-proxy`.
    #[must_use]
    pub fn as_label(&self) -> String {
        self.0.replace(':', "-")
    }
}

impl FromStr for MethodId {
    type Err = BadMethodId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let well_formed = parts.by_ref().take(2).all(is_kebab) && parts.next().is_none();
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadMethodId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for MethodId {
    type Error = BadMethodId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MethodId> for String {
    fn from(id: MethodId) -> Self {
        id.0
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether `text` is lower-case words and digits joined by single hyphens.
fn is_kebab(text: &str) -> bool {
    text.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_follows_one_colon() {
        let id: MethodId = "forward:proxy".parse().unwrap();
        assert_eq!(id.base(), "forward");
        assert_eq!(id.as_label(), "forward-proxy");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "", ":", "forward:", ":x", "a:b:c", "Forward", "a b", "a--b", "-a", "ä",
        ] {
            assert!(text.parse::<MethodId>().is_err(), "{text:?} was taken");
        }
    }
}
