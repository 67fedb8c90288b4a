//! The flags of a role: `--name value`, `--name=value`, and several values behind one name.

use std::collections::BTreeMap;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::str::FromStr;

/// Flags by name, read and not yet understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(BTreeMap<String, Vec<String>>);

/// Arguments that make no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FlagError {
    #[error("there is no flag `{0}`\n(hint: there are {1})")]
    Unknown(String, String),
    #[error("`{0}` belongs to no flag")]
    Stray(String),
    #[error("`{flag}` wants {wants}, not `{value}`")]
    Value {
        flag: String,
        value: String,
        wants: &'static str,
    },
}

impl Flags {
    /// Reads arguments of which only flags in `known` make sense. A name is written with one dash or two.
    ///
    /// # Errors
    /// [`FlagError`], naming the argument.
    pub(crate) fn parse(arguments: Vec<String>, known: &[&str]) -> Result<Self, FlagError> {
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut current: Option<String> = None;
        for argument in arguments {
            if let Some(flag) = argument.strip_prefix('-') {
                let flag = flag.strip_prefix('-').unwrap_or(flag);
                let (name, value) = flag
                    .split_once('=')
                    .map_or((flag, None), |(name, value)| (name, Some(value)));
                if !known.contains(&name) {
                    let known: Vec<String> =
                        known.iter().map(|name| format!("`--{name}`")).collect();
                    return Err(FlagError::Unknown(argument, known.join(", ")));
                }
                flags
                    .entry(name.to_owned())
                    .or_default()
                    .extend(value.map(str::to_owned));
                current = Some(name.to_owned());
            } else {
                let Some(values) = current.as_ref().and_then(|name| flags.get_mut(name)) else {
                    return Err(FlagError::Stray(argument));
                };
                values.push(argument);
            }
        }
        Ok(Self(flags))
    }

    /// Whether a flag was given at all.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.contains_key(flag)
    }

    /// The last value of a flag, or `default` where it was not given.
    pub(crate) fn value<T: FromStr>(
        &self,
        flag: &str,
        wants: &'static str,
        default: T,
    ) -> Result<T, FlagError> {
        match self.texts(flag).last() {
            Some(value) => value
                .parse()
                .map_err(|_unparsed| Self::wrong(flag, value, wants)),
            None => Ok(default),
        }
    }

    /// All values of a flag as addresses of servers, with `port` where they have none.
    pub(crate) fn servers(&self, flag: &str, port: u16) -> Result<Vec<SocketAddr>, FlagError> {
        let server = |value: &String| {
            let bare = value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
            bare.or_else(|_| value.parse())
                .map_err(|_unparsed: AddrParseError| Self::wrong(flag, value, "an address"))
        };
        self.texts(flag).iter().map(server).collect()
    }

    fn texts(&self, flag: &str) -> &[String] {
        self.0.get(flag).map_or(&[], Vec::as_slice)
    }

    fn wrong(flag: &str, value: &str, wants: &'static str) -> FlagError {
        FlagError::Value {
            flag: format!("--{flag}"),
            value: value.to_owned(),
            wants,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Flags, FlagError> {
        Flags::parse(
            text.split_whitespace().map(str::to_owned).collect(),
            &["listen", "upstream", "conf"],
        )
    }

    #[test]
    fn all_forms_are_read() {
        let flags = parse("-conf /etc/coredns/Corefile --upstream 192.0.2.1 192.0.2.2:54 --upstream=::1 --listen=0.0.0.0:53").unwrap();
        let upstream: Vec<String> = flags
            .servers("upstream", 53)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(upstream, ["192.0.2.1:53", "192.0.2.2:54", "[::1]:53"]);
        assert!(flags.has("conf"));
        let default: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(
            flags.value("listen", "an address", default).unwrap().port(),
            53
        );
        assert_eq!(
            parse("").unwrap().value("listen", "an address", default),
            Ok(default)
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            parse("--lisen x").unwrap_err().to_string(),
            "there is no flag `--lisen`\n(hint: there are `--listen`, `--upstream`, `--conf`)"
        );
        assert_eq!(
            parse("x").unwrap_err().to_string(),
            "`x` belongs to no flag"
        );
        let wrong = parse("--upstream nowhere")
            .unwrap()
            .servers("upstream", 53)
            .unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "`--upstream` wants an address, not `nowhere`"
        );
    }
}
