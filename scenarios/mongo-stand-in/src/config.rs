//! How a member is set up.

use std::time::Duration;

use crate::member::Timing;

/// The most members of a set; MongoDB's limit of voting members is the same.
const MOST_MEMBERS: usize = 7;

/// A member's settings. All members of a set have the same, but for `me`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The set's name: `replicaSet` in a connection string.
    pub set: String,
    /// The members by the addresses that clients and members use, `host:port`.
    pub members: Vec<String>,
    /// Which of them this one is.
    pub me: usize,
    /// Time between two heartbeats (`settings.heartbeatIntervalMillis`).
    pub heartbeat: Duration,
    /// Time without a primary until an election (`settings.electionTimeoutMillis`).
    pub election: Duration,
}

/// MongoDB's own heartbeat interval.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// MongoDB's own election timeout.
pub const ELECTION: Duration = Duration::from_secs(10);

/// Settings that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There must be at least one member.
    #[error("a set has 1 to {MOST_MEMBERS} members, not {0}")]
    Members(usize),
    /// Two members have one address.
    #[error("`{0}` is named twice among the members")]
    Twice(String),
    /// An address has no port.
    #[error("`{0}` is no address of a member\n(hint: `host:port`)")]
    Address(String),
    /// The member itself is none of the members.
    #[error("`{0}` is none of the members")]
    Me(String),
    /// Members must be heard several times within an election timeout.
    #[error("the election timeout must be at least twice the time between heartbeats")]
    Timing,
}

impl Config {
    /// The settings of the member `me` of the set `set` of `members`, with MongoDB's own times.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(set: &str, members: Vec<String>, me: &str) -> Result<Self, ConfigError> {
        if members.is_empty() || members.len() > MOST_MEMBERS {
            return Err(ConfigError::Members(members.len()));
        }
        for (number, member) in members.iter().enumerate() {
            let port = member.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(ConfigError::Address(member.clone()));
            }
            if members[..number].contains(member) {
                return Err(ConfigError::Twice(member.clone()));
            }
        }
        let own = members.iter().position(|member| member == me);
        Ok(Self {
            set: set.to_owned(),
            me: own.ok_or_else(|| ConfigError::Me(me.to_owned()))?,
            members,
            heartbeat: HEARTBEAT,
            election: ELECTION,
        })
    }

    /// The same with other times.
    ///
    /// # Errors
    /// [`ConfigError::Timing`].
    pub fn with_times(self, heartbeat: Duration, election: Duration) -> Result<Self, ConfigError> {
        if heartbeat.is_zero() || election < heartbeat * 2 {
            return Err(ConfigError::Timing);
        }
        Ok(Self {
            heartbeat,
            election,
            ..self
        })
    }

    /// This member's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.members[self.me]
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing {
            heartbeat: self.heartbeat,
            election: self.election,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let of = |members: &[&str], me| {
            let members = members.iter().map(ToString::to_string).collect();
            Config::new("rs0", members, me)
        };
        assert_eq!(of(&["a:1", "b:1"], "b:1").unwrap().me, 1);
        assert_eq!(of(&[], "a:1").unwrap_err(), ConfigError::Members(0));
        assert_eq!(
            of(&["a:1", "a:1"], "a:1").unwrap_err(),
            ConfigError::Twice("a:1".into())
        );
        assert_eq!(
            of(&["a"], "a").unwrap_err(),
            ConfigError::Address("a".into())
        );
        assert_eq!(
            of(&["a:0"], "a:0").unwrap_err(),
            ConfigError::Address("a:0".into())
        );
        assert_eq!(
            of(&["a:1"], "b:1").unwrap_err(),
            ConfigError::Me("b:1".into())
        );
        let config = of(&["a:1"], "a:1").unwrap();
        let wrong = config.with_times(ELECTION, ELECTION).unwrap_err();
        assert_eq!(wrong, ConfigError::Timing);
    }
}
