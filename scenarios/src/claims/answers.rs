//! The claims, in the order of the catalogue, and what answers them.

use inroads_harness::expected::Outcome;
use inroads_harness::run::ClaimVerdict::{self, Depends, Refuted, Upheld};

use super::Question;
use super::seen::{told, works};

/// How far from the control a figure may be and still be called no loss.
const NO_LOSS: f64 = 0.05;

/// Every claim.
pub(super) const ALL: &[Question] = &[
    Question {
        id: "1",
        claim: "forward: only single HTTP or simple TCP services; no cluster DNS",
        probes: &["reach/cluster-ip", "fidelity/udp-echo", "dns/service-fqdn"],
        figures: &[],
        methods: "forward",
        answer: |seen| {
            let all = ["reach/cluster-ip", "fidelity/udp-echo", "dns/service-fqdn"];
            let outcomes = seen.outcomes(&all, "forward")?;
            let [(_, tcp), (_, udp), (_, dns)] = outcomes[..] else {
                return None;
            };
            let verdict = match (works(tcp), works(udp), dns) {
                (true, false, dns) if !works(dns) => Upheld,
                (true, false, dns) if dns != Outcome::Unmodified => Depends,
                _ => Refuted,
            };
            let on = if verdict == Depends {
                "; the DNS server's own TCP port can be forwarded, for clients that are told to ask there"
            } else {
                ""
            };
            Some((verdict, told(&outcomes) + on))
        },
    },
    Question {
        id: "2",
        claim: "forward: each component is forwarded by itself",
        probes: &["reach/pod-ip", "reach/cluster-ip"],
        figures: &[],
        methods: "forward",
        answer: |seen| {
            let outcomes = seen.outcomes(&["reach/pod-ip", "reach/cluster-ip"], "forward")?;
            let by_itself = outcomes.iter().all(|(_, it)| *it != Outcome::Unmodified);
            Some((upheld_if(by_itself), told(&outcomes)))
        },
    },
    Question {
        id: "3",
        claim: "forward: where a pod is replaced, the command must be given again",
        probes: &["lifecycle/pod-replaced"],
        figures: &[],
        methods: "forward --peer kubectl",
        answer: |seen| {
            let ours = seen.outcome("lifecycle/pod-replaced", "forward")?;
            let command = seen.outcome("lifecycle/pod-replaced", "forward:kubectl");
            let mut outcomes = vec![("ours", ours)];
            outcomes.extend(command.map(|outcome| ("kubectl port-forward", outcome)));
            let verdict = match (works(ours), command.map(works)) {
                (false, _) => Upheld,
                (true, Some(true)) => Refuted,
                (true, Some(false)) => Depends,
                (true, None) => Refuted,
            };
            let on = match verdict {
                Depends => "; on the program: ours looks for another pod, the command does not",
                _ if command.is_none() => "; kubectl's command was not run",
                _ => "",
            };
            Some((
                verdict,
                format!("lifecycle/pod-replaced: {}{on}", told(&outcomes)),
            ))
        },
    },
    Question {
        id: "4",
        claim: "forward: not for Redis Cluster, Kafka or MongoDB",
        probes: &["redis/moved", "mongo/topology"],
        figures: &[],
        methods: "forward",
        answer: |seen| {
            let outcomes = seen.outcomes(&["redis/moved", "mongo/topology"], "forward")?;
            let some = outcomes.iter().any(|(_, it)| works(*it));
            let unmodified = outcomes.iter().any(|(_, it)| *it == Outcome::Unmodified);
            let verdict = match (unmodified, some) {
                (true, _) => Refuted,
                (false, true) => Depends,
                (false, false) => Upheld,
            };
            let on = if verdict == Depends {
                "; on whether the driver takes a map of addresses"
            } else {
                ""
            };
            Some((verdict, told(&outcomes) + on + "; Kafka is not asked"))
        },
    },
    Question {
        id: "5",
        claim: "forward: RBAC says who may forward what, so it is the safer way",
        probes: &["safety/least-privilege", "safety/neighbour"],
        figures: &[],
        methods: "all",
        answer: |seen| {
            let asked = ["safety/least-privilege", "safety/neighbour"];
            let outcomes = seen.outcomes(&asked, "forward")?;
            let safe = outcomes.iter().all(|(_, it)| works(*it));
            let others = ["route", "socks", "wireguard"];
            let others: Vec<(&str, Outcome)> = others
                .iter()
                .filter_map(|method| Some((*method, seen.outcome("safety/neighbour", method)?)))
                .collect();
            let as_safe = others.iter().any(|(_, it)| works(*it));
            let verdict = match (safe, as_safe) {
                (true, false) => Upheld,
                (true, true) => Depends,
                (false, _) => Refuted,
            };
            let text = format!(
                "{}; a neighbour without credential against the others: {}",
                told(&outcomes),
                told(&others)
            );
            Some((verdict, text))
        },
    },
    Question {
        id: "6",
        claim: "kubectl proxy needs a token and is not transparent",
        probes: &["reach/cluster-ip", "fidelity/http"],
        figures: &[],
        methods: "forward --peer kubectl",
        answer: |seen| {
            let asked = ["reach/cluster-ip", "fidelity/http"];
            let outcomes = seen.outcomes(&asked, "forward:kubectl-proxy")?;
            let opaque = outcomes.iter().all(|(_, it)| *it != Outcome::Unmodified);
            Some((upheld_if(opaque), told(&outcomes)))
        },
    },
    Question {
        id: "7",
        claim: "route: completely transparent, and no loss of performance",
        probes: TRANSPARENCY,
        figures: &["http/requests", "http/latency", "http/download"],
        methods: "direct route",
        answer: |seen| {
            let (opaque, tried) = seen.opaque("route")?;
            let mut losses = Vec::new();
            for figure in ["http/requests", "http/latency", "http/download"] {
                let ratio = seen.to_direct(figure, "route")?;
                // Of a latency more is worse, of a rate less.
                let worse = if figure.ends_with("latency") {
                    ratio.value > 1.0 + NO_LOSS
                } else {
                    ratio.value < 1.0 - NO_LOSS
                };
                let sure = ratio
                    .interval
                    .is_none_or(|(low, high)| low > 1.0 || high < 1.0);
                if worse && sure {
                    losses.push(format!("{figure} ×{:.2}", ratio.value));
                }
            }
            let text = format!(
                "{} of {tried} required probes pass unmodified{}; against a client in the cluster: {}",
                tried - opaque.len(),
                except(&opaque),
                if losses.is_empty() {
                    "no loss beyond 5%".to_owned()
                } else {
                    losses.join(", ")
                },
            );
            let verdict = match (opaque.is_empty(), losses.is_empty()) {
                (true, true) => Upheld,
                (false, false) => Refuted,
                _ => Depends,
            };
            Some((verdict, text))
        },
    },
    Question {
        id: "8",
        claim: "route: names work by asking the cluster's DNS, or forwarding to it",
        probes: &["dns/service-fqdn", "dns/headless-set", "dns/split"],
        figures: &[],
        methods: "route",
        answer: |seen| {
            let all = ["dns/service-fqdn", "dns/headless-set", "dns/split"];
            let outcomes = seen.outcomes(&all, "route")?;
            let names = outcomes.iter().all(|(_, it)| *it == Outcome::Unmodified);
            Some((upheld_if(names), told(&outcomes)))
        },
    },
    Question {
        id: "9",
        claim: "route: nothing is deployed, but every gateway on the path must be configurable",
        probes: &["reach/pod-ip", "reach/cluster-ip"],
        figures: &["http/memory-cluster"],
        methods: "direct route socks",
        answer: |seen| {
            let outcomes = seen.outcomes(&["reach/pod-ip", "reach/cluster-ip"], "route")?;
            // Only where the cost of others was read, its absence says something.
            seen.line("http/memory-cluster", "socks")?;
            let nothing = seen.line("http/memory-cluster", "route").is_none();
            let text = "no part of the cluster works for it; the laptop was on the nodes' LAN, where no other gateway \
                        had to be configured";
            let verdict = if nothing { Depends } else { Refuted };
            Some((verdict, format!("{text}: {}", told(&outcomes))))
        },
    },
    Question {
        id: "10",
        claim: "route: networks that overlap make it impossible",
        probes: &["safety/cidr-overlap"],
        figures: &[],
        methods: "all",
        answer: |seen| {
            let outcome = seen.outcome("safety/cidr-overlap", "route")?;
            // A pass says that it was refused before anything was changed.
            let told = told(&[("safety/cidr-overlap", outcome)]);
            Some((upheld_if(works(outcome)), told))
        },
    },
    Question {
        id: "11",
        claim: "socks: every Pod and Service, by address and by name, nearly seamlessly",
        probes: &[
            "reach/pod-ip",
            "reach/cluster-ip",
            "dns/service-fqdn",
            "dns/statefulset-pod",
        ],
        figures: &[],
        methods: "socks",
        answer: |seen| {
            let all = [
                "reach/pod-ip",
                "reach/cluster-ip",
                "dns/service-fqdn",
                "dns/statefulset-pod",
            ];
            let outcomes = seen.outcomes(&all, "socks")?;
            let every = outcomes.iter().all(|(_, it)| works(*it));
            let seamless = outcomes.iter().all(|(_, it)| *it == Outcome::Unmodified);
            let verdict = match (every, seamless) {
                (true, true) => Upheld,
                (true, false) => Depends,
                (false, _) => Refuted,
            };
            let on = if verdict == Depends {
                "; on clients that take a proxy and leave names to it"
            } else {
                ""
            };
            Some((verdict, told(&outcomes) + on))
        },
    },
    Question {
        id: "12",
        claim: "socks: names are resolved in the cluster, so a local lookup of one fails",
        probes: &["dns/service-fqdn"],
        figures: &[],
        methods: "socks",
        answer: |seen| {
            let outcome = seen.outcome("dns/service-fqdn", "socks")?;
            let remote = works(outcome) && outcome != Outcome::Unmodified;
            Some((upheld_if(remote), told(&[("dns/service-fqdn", outcome)])))
        },
    },
    Question {
        id: "13",
        claim: "socks: not every program uses the proxy; a forcing tool mends that",
        probes: &["redis/moved", "mongo/topology"],
        figures: &[],
        methods: "socks",
        answer: |seen| {
            let outcomes = seen.outcomes(&["redis/moved", "mongo/topology"], "socks")?;
            let all_use_it = outcomes.iter().all(|(_, it)| *it == Outcome::Configured);
            let text = told(&outcomes) + "; a forcing tool is not tried";
            Some((if all_use_it { Refuted } else { Depends }, text))
        },
    },
    Question {
        id: "14",
        claim: "socks: light, on demand, and other traffic is not affected",
        probes: &["safety/unrelated"],
        figures: &["http/memory-cluster"],
        methods: "all",
        answer: |seen| {
            let outcome = seen.outcome("safety/unrelated", "socks")?;
            let against = seen.ratio("http/memory-cluster", "socks", "wireguard")?;
            let text = format!(
                "{}; memory in the cluster ×{against:.2} of the WireGuard gateway's",
                told(&[("safety/unrelated", outcome)])
            );
            let verdict = match (works(outcome), against <= 1.0 + NO_LOSS) {
                (true, true) => Upheld,
                (false, _) => Refuted,
                (true, false) => Depends,
            };
            Some((verdict, text))
        },
    },
    Question {
        id: "15",
        claim: "vpn: completely transparent",
        probes: TRANSPARENCY,
        figures: &[],
        methods: "wireguard",
        answer: |seen| {
            let (opaque, tried) = seen.opaque("wireguard")?;
            let text = format!(
                "{} of {tried} required probes pass unmodified{}",
                tried - opaque.len(),
                except(&opaque)
            );
            Some((upheld_if(opaque.is_empty()), text))
        },
    },
    Question {
        id: "16",
        claim: "vpn: it affects all traffic",
        probes: &["safety/unrelated"],
        figures: &[],
        methods: "wireguard",
        answer: |seen| {
            let outcome = seen.outcome("safety/unrelated", "wireguard")?;
            let text = told(&[("safety/unrelated", outcome)])
                + "; the tunnel takes the cluster's networks only, which is a choice";
            Some((if works(outcome) { Refuted } else { Upheld }, text))
        },
    },
    Question {
        id: "17",
        claim: "vpn: heavier than the others, and likely less efficient",
        probes: &[],
        figures: &["http/requests", "http/latency", "http/download"],
        methods: "all",
        answer: |seen| {
            let mut worst = 0;
            let mut text = Vec::new();
            for figure in ["http/requests", "http/latency", "http/download"] {
                let others = ["forward", "route", "socks"].map(|other| {
                    seen.ratio(figure, "wireguard", other)
                        .map(|ratio| (other, ratio))
                });
                let others: Vec<(&str, f64)> = others.into_iter().collect::<Option<_>>()?;
                let slower = |ratio: f64| {
                    if figure.ends_with("latency") {
                        ratio > 1.0
                    } else {
                        ratio < 1.0
                    }
                };
                worst += usize::from(others.iter().all(|(_, ratio)| slower(*ratio)));
                let each: Vec<String> = others
                    .iter()
                    .map(|(other, ratio)| format!("×{ratio:.2} of {other}"))
                    .collect();
                text.push(format!("{figure} {}", each.join(", ")));
            }
            let verdict = match worst {
                3 => Upheld,
                0 => Refuted,
                _ => Depends,
            };
            Some((verdict, text.join("; ")))
        },
    },
    Question {
        id: "18",
        claim: "the order to try them in: forward, then route, then socks or vpn as needed",
        probes: TRANSPARENCY,
        figures: &["http/requests"],
        methods: "all",
        answer: |seen| {
            let mut lines = Vec::new();
            for method in ["forward", "route", "socks", "wireguard"] {
                let (opaque, tried) = seen.opaque(method)?;
                let rate = seen.to_direct("http/requests", method)?;
                let unmodified = tried - opaque.len();
                lines.push((
                    method,
                    unmodified,
                    format!(
                        "{method} {unmodified} of {tried} unmodified, requests ×{:.2}",
                        rate.value
                    ),
                ));
            }
            let most = lines.iter().map(|(_, unmodified, _)| *unmodified).max()?;
            let first_is_best = lines
                .first()
                .is_some_and(|(_, unmodified, _)| *unmodified == most);
            let text: Vec<String> = lines.into_iter().map(|(_, _, text)| text).collect();
            let text = text.join("; ") + "; on what a team needs and may change";
            Some((if first_is_best { Upheld } else { Depends }, text))
        },
    },
    Question {
        id: "19",
        claim: "socks: finer control of traffic than a vpn, and more efficient",
        probes: &["safety/unrelated"],
        figures: &["http/requests", "http/latency", "http/download"],
        methods: "all",
        answer: |seen| {
            let mut better = 0;
            let mut text = Vec::new();
            for figure in ["http/requests", "http/latency", "http/download"] {
                let ratio = seen.ratio(figure, "socks", "wireguard")?;
                let wins = if figure.ends_with("latency") {
                    ratio < 1.0
                } else {
                    ratio > 1.0
                };
                better += usize::from(wins);
                text.push(format!("{figure} ×{ratio:.2} of wireguard"));
            }
            let verdict = match better {
                3 => Upheld,
                0 => Refuted,
                _ => Depends,
            };
            let text = text.join(", ")
                + "; control is by client with one and by network with the other, which no figure says";
            Some((verdict, text))
        },
    },
];

/// The groups that stand for transparency, where all that a run asked counts.
const TRANSPARENCY: &[&str] = &["dns/*", "reach/*", "fidelity/*", "redis/*", "mongo/*"];

fn upheld_if(shown: bool) -> ClaimVerdict {
    if shown { Upheld } else { Refuted }
}

fn except(probes: &[&str]) -> String {
    if probes.is_empty() {
        return String::new();
    }
    format!(" (not {})", probes.join(", "))
}
