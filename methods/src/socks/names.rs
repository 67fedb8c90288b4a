//! Names as the SOCKS5 server asks for them.

use std::borrow::Cow;
use std::sync::LazyLock;

use inroads_harness::dns::ResolvConf;

/// The domains that this pod's resolver tries short names in. They stay the same while the pod is there.
static SEARCH: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    ResolvConf::parse(&text).search
});

/// `name` for this pod's resolver.
pub(super) fn as_asked(name: &str) -> Cow<'_, str> {
    absolute(name, &SEARCH)
}

/// A name that ends in a domain of the search list is whole, and gets the dot that says so (RFC 1034 §3.1). Pods
/// take names of fewer than five dots for short ones: without the dot, `web.default.svc.cluster.local` would be
/// tried in every domain first, and a name that does not exist asked of the office, where it leads out.
fn absolute<'a>(name: &'a str, search: &[String]) -> Cow<'a, str> {
    let is_below = |domain: &String| {
        let domain = domain.trim_end_matches('.');
        let cut = name.len().checked_sub(domain.len() + 1);
        let split = cut.and_then(|cut| name.split_at_checked(cut));
        split.is_some_and(|(label, rest)| {
            !domain.is_empty()
                && !label.is_empty()
                && rest
                    .strip_prefix('.')
                    .is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
        })
    };
    if search.iter().any(is_below) {
        Cow::Owned(format!("{name}."))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_cluster_are_whole_and_others_stay_as_they_are() {
        let search = [
            "lab.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
            "",
        ];
        let search = search.map(str::to_owned);
        for (name, asked) in [
            ("web.lab.svc.cluster.local", "web.lab.svc.cluster.local."),
            ("Web.Lab.Svc.Cluster.Local", "Web.Lab.Svc.Cluster.Local."),
            (
                "web.other.svc.cluster.local",
                "web.other.svc.cluster.local.",
            ),
            ("web", "web"),
            ("web.lab", "web.lab"),
            ("web.lab.svc", "web.lab.svc"),
            ("cluster.local", "cluster.local"),
            ("mycluster.local", "mycluster.local"),
            (".cluster.local", ".cluster.local"),
            ("web.cluster.local.", "web.cluster.local."),
            ("example.com", "example.com"),
            ("", ""),
            ("ü.cluster.local", "ü.cluster.local."),
        ] {
            assert_eq!(absolute(name, &search), asked, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_stays_as_it_is_or_gets_a_dot(
            name in "\\PC*",
            search in proptest::collection::vec("\\PC{0,9}", 0..4),
        ) {
            let below = search.iter().map(|domain| format!("{name}.{domain}"));
            for name in below.chain([name.clone()]) {
                let asked = absolute(&name, &search);
                prop_assert!(asked == name || asked.strip_suffix('.') == Some(&name));
            }
        }
    }
}
