//! The rights that a run needs in a cluster that is not ours.

/// What every run needs.
const RUN: &str = include_str!("../manifests/rbac.yaml");

/// What the cost of methods needs beside it.
const COST: &str = include_str!("../manifests/rbac-cost.yaml");

/// The manifests, for runs in `namespace`; with the rights to read costs, or without.
#[must_use]
pub fn rbac(namespace: &str, with_cost: bool) -> String {
    let cost = if with_cost { COST } else { "" };
    let separator = if with_cost { "---\n" } else { "" };
    let text = format!("{RUN}{separator}{cost}");
    // Cluster-wide names begin with the namespace's, so that two namespaces do not share rights.
    text.replace("namespace: inroads\n", &format!("namespace: {namespace}\n"))
        .replace(
            "namespace: inroads }",
            &format!("namespace: {namespace} }}"),
        )
        .replace("--namespace inroads ", &format!("--namespace {namespace} "))
        .replace("name: inroads\n", &format!("name: {namespace}\n"))
        .replace("[\"inroads\"]", &format!("[\"{namespace}\"]"))
        .replace("inroads-runner", &format!("{namespace}-runner"))
        .replace("inroads-cost", &format!("{namespace}-cost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_namespace_shares_nothing_with_the_first() {
        let text = rbac("mine", true);
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            // Labels, and what our node image says of itself, have one name for all.
            let same = [
                "managed-by: inroads",
                "inroads.dev/",
                "\"inroads-node-image\"",
            ];
            let same = same.iter().any(|text| line.contains(text));
            assert!(same || !line.contains("inroads"), "{line}");
        }
        assert!(
            text.contains("kind: ClusterRole\nmetadata:\n  name: mine-cost"),
            "{text}"
        );
    }

    #[test]
    fn costs_are_left_out_where_they_are_not_wanted() {
        assert!(!rbac("inroads", false).contains("nodes/proxy"));
        assert!(rbac("inroads", true).contains("nodes/proxy"));
    }
}
