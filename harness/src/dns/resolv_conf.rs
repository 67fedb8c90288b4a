//! The resolver's configuration file, `/etc/resolv.conf`, as resolv.conf(5) has it.
//!
//! Text in, text out: nobody's file is touched here.

use std::fmt;
use std::net::IpAddr;

/// What a `resolv.conf` says. Sort lists are left out: nothing of ours sorts addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers to ask, in order. The C library uses the first three.
    pub nameservers: Vec<IpAddr>,
    /// The domains that a short name is tried in, in order.
    pub search: Vec<String>,
    /// The options, each as it is written: `ndots:5`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a file's text. As in the C library, a keyword stands at the start of its line, the last
    /// `search` or `domain` counts, options add up, and what makes no sense is passed over. So is a server
    /// with an interface in its address (`fe80::1%eth0`): it means nothing elsewhere.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            // A keyword with space before it is none.
            if line.starts_with(BLANKS) {
                continue;
            }
            let mut words = line.split(BLANKS).filter(|word| !word.is_empty());
            match words.next() {
                Some("nameserver") => {
                    conf.nameservers
                        .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }
}

/// The file's text.
impl fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.nameservers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.search.is_empty() {
            writeln!(f, "search {}", self.search.join(" "))?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_laptops_file_reads_as_resolvers_expect_it() {
        let conf = ResolvConf {
            nameservers: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            search: vec![
                "default.svc.cluster.local".to_owned(),
                "office.test".to_owned(),
            ],
            options: vec!["ndots:5".to_owned(), "edns0".to_owned()],
        };
        assert_eq!(
            conf.to_string(),
            "nameserver 127.0.0.1\nnameserver ::1\n\
             search default.svc.cluster.local office.test\noptions ndots:5 edns0\n"
        );
    }

    #[test]
    fn comments_tabs_and_nonsense_are_no_obstacle() {
        let conf = ResolvConf::parse(
            "# made by hand\n; and by nobody\nnameserver\t192.168.50.53\n nameserver 10.0.0.1\n\
             nameserver not-an-address\nnameserver fe80::1%eth0\nnameserver fd00::53   # v6\nnameserver\n\
             domain old.test\nsearch  a.test\tb.test \nsortlist 130.155.160.0\noptions ndots:2\n\
             options timeout:1 rotate\r\nrubbish\n",
        );
        assert_eq!(
            conf.nameservers,
            ["192.168.50.53", "fd00::53"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        assert_eq!(conf.search, ["a.test", "b.test"]);
        assert_eq!(conf.options, ["ndots:2", "timeout:1", "rotate"]);
    }

    #[test]
    fn the_last_of_domain_and_search_counts() {
        assert_eq!(ResolvConf::parse("search a b\ndomain c\n").search, ["c"]);
        assert_eq!(ResolvConf::parse("domain c\nsearch a b").search, ["a", "b"]);
        assert_eq!(ResolvConf::parse("search a\nsearch\n").search, [""; 0]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            nameservers in proptest::collection::vec(any::<IpAddr>(), 0..4),
            search in proptest::collection::vec("[a-z][a-z0-9.-]{0,30}", 0..5),
            options in proptest::collection::vec("[a-z][a-z0-9:-]{0,15}", 0..5),
        ) {
            let conf = ResolvConf { nameservers, search, options };
            prop_assert_eq!(ResolvConf::parse(&conf.to_string()), conf);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = ResolvConf::parse(&text);
        }
    }
}
