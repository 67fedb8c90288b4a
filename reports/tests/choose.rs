//! Which method for a team: the documented teams against a whole run of all methods, and answers without a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use inroads_harness::ids::MethodId;
use inroads_harness::run::{ProbeResult, Run, Status, Verdict};
use inroads_reports::choose::{
    Advice, Ahead, Evidence, Fit, Ranked, Side, Source, Team, choose, is_known, probes, terminal,
};

/// A real run of all methods, scenarios and probes, without its histograms.
fn run() -> Run {
    inroads_reports::read(include_str!("full-run.json")).expect("a result file")
}

/// What stands before the answers in docs/teams/README.md.
const ANSWERS: &str =
    "<!-- Below: what is answered. The tests of `reports` hold it against what is. -->\n";

/// The documented teams, by their files' names.
fn teams() -> BTreeMap<String, Team> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/teams");
    let entries = std::fs::read_dir(folder).expect("the folder of teams");
    let files = entries.map(|it| it.expect("an entry").path());
    let files = files.filter(|it| it.extension().is_some_and(|it| it == "toml"));
    files
        .map(|file| {
            let name = file.with_extension("");
            let name = name.file_name().expect("a name").display().to_string();
            let text = std::fs::read_to_string(&file).expect("a team");
            let team = Team::read(&text, &name).unwrap_or_else(|error| panic!("{error}"));
            assert!(text.starts_with("# "), "{name} does not tell its story");
            (name, team)
        })
        .collect()
}

fn team(toml: &str) -> Team {
    Team::read(toml, "team.toml").expect("a team")
}

fn of<'a>(advice: &'a Advice, method: &str) -> &'a Ranked {
    let found = advice
        .ranking
        .iter()
        .find(|it| it.method.as_str() == method);
    found.unwrap_or_else(|| panic!("{method} is not ranked"))
}

fn methods(advice: &Advice) -> Vec<&str> {
    advice.ranking.iter().map(|it| it.method.as_str()).collect()
}

fn probe_mut<'a>(run: &'a mut Run, id: &str, method: &str) -> &'a mut ProbeResult {
    let mut probes = run.probes.iter_mut();
    probes
        .find(|it| it.id == id && it.method.as_str() == method)
        .expect("a probe of the run")
}

#[test]
fn the_documented_teams_get_different_answers_that_rest_on_the_run() {
    let run = run();
    let teams = teams();
    assert!(teams.len() >= 6);
    let mut answers = BTreeSet::new();
    let mut winners = BTreeSet::new();
    for (name, team) in &teams {
        let advice = choose(team, Source::Run(&run));
        assert_eq!(advice.ranking.len(), 4, "{name}");
        for ranked in &advice.ranking {
            let evidence = ranked.reasons.iter().flat_map(|it| &it.evidence);
            let measured = evidence.filter(|it| {
                matches!(
                    it,
                    Evidence::Probe {
                        outcome: Some(_),
                        ..
                    } | Evidence::Figure {
                        median: Some(_),
                        ..
                    }
                )
            });
            assert!(
                measured.count() > 0,
                "{name}: nothing of the run speaks for or against {}",
                ranked.method
            );
        }
        let ranking = advice.ranking.iter().map(|it| {
            let reasons = it
                .reasons
                .iter()
                .map(|it| format!("{:?} {}", it.side, it.about));
            (it.method.to_string(), it.fit, reasons.collect::<Vec<_>>())
        });
        answers.insert(ranking.collect::<Vec<_>>());
        let first = &advice.ranking[0];
        if first.fit != Fit::RuledOut {
            winners.insert(first.method.to_string());
        }
    }
    assert!(answers.len() >= 6, "{} different answers", answers.len());
    assert!(winners.len() >= 3, "only {winners:?} ever come first");
}

#[test]
fn the_documented_answers_are_those_that_are_given() {
    let run = run();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/teams");
    let documented = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let (intro, _) = documented
        .split_once(ANSWERS)
        .expect("a README with answers");
    let mut text = intro.to_owned() + ANSWERS;
    for (name, team) in teams() {
        let answer = terminal(&choose(&team, Source::Run(&run)));
        for line in answer.lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
        text += &format!("\n## [{name}]({name}.toml)\n\n```text\n{answer}```\n");
    }
    let given = Path::new(env!("CARGO_TARGET_TMPDIR")).join("teams.md");
    std::fs::write(&given, &text).unwrap();
    assert!(
        documented == text,
        "docs/teams/README.md is not what is answered; copy {} there",
        given.display()
    );
}

#[test]
fn every_probe_and_every_need_that_rules_ask_for_is_in_a_whole_run() {
    let run = run();
    let known: BTreeSet<&str> = run.probes.iter().map(|it| it.id.as_str()).collect();
    let mut asked = 0;
    for id in probes() {
        assert!(known.contains(id), "no probe is called {id}");
        asked += 1;
    }
    assert!(asked > 20);
    let ways = run.methods.iter().filter(|it| it.id.as_str() != "direct");
    let needs: Vec<&String> = ways.flat_map(|it| &it.needs).collect();
    assert!(needs.len() > 10);
    for need in needs {
        assert!(is_known(need), "no rule knows `{need}`");
    }
}

#[test]
fn without_a_run_needs_and_the_articles_order_rank_and_nothing_is_called_measured() {
    let run = run();
    for (name, team) in teams() {
        let advice = choose(&team, Source::Declared(&run.methods));
        assert_eq!(advice.ranking.len(), 4, "{name}");
        assert!(
            advice.ranking.iter().all(|it| it.fit != Fit::Fits),
            "{name}: not tried is not passed"
        );
        let evidence = advice
            .ranking
            .iter()
            .flat_map(|it| &it.reasons)
            .flat_map(|it| &it.evidence);
        let mut declared = 0;
        for one in evidence {
            assert!(
                !matches!(
                    one,
                    Evidence::Probe {
                        outcome: Some(_),
                        ..
                    } | Evidence::Figure { .. }
                ),
                "{one:?}"
            );
            declared += usize::from(matches!(one, Evidence::Declared { .. }));
        }
        assert!(declared > 0, "{name}");
        assert!(terminal(&advice).contains("inroads bench all"), "{name}");
    }
    let all = "[laptops]\nroot = \"yes\"\n[rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n\
               [[workload]]\nname = \"http\"\n[needs]\nudp = true\n";
    let advice = choose(&team(all), Source::Declared(&run.methods));
    assert_eq!(methods(&advice), ["route", "wireguard", "socks", "forward"]);
    assert_eq!(
        advice.ranking[0].ahead,
        Some(Ahead::Order { within_noise: None })
    );
    assert_eq!(
        of(&advice, "forward").fit,
        Fit::RuledOut,
        "it declares that it carries no UDP"
    );
}

#[test]
fn what_the_run_saw_decides_and_not_the_methods_name() {
    let confidential = team(
        "[laptops]\nroot = \"yes\"\n[rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n\
         [needs]\nconfidential = true\n",
    );
    let mut run = run();
    let advice = choose(&confidential, Source::Run(&run));
    assert_eq!(of(&advice, "route").fit, Fit::RuledOut);
    assert_eq!(of(&advice, "wireguard").fit, Fit::Fits);

    // The same two, seen the other way round.
    let fail = probe_mut(&mut run, "safety/wire-canary", "wireguard");
    (fail.verdict, fail.effort) = (Verdict::Fail, None);
    let pass = probe_mut(&mut run, "safety/wire-canary", "route");
    (pass.verdict, pass.effort) = (
        Verdict::Pass,
        Some(inroads_harness::access::Effort::Unmodified),
    );
    let advice = choose(&confidential, Source::Run(&run));
    assert_eq!(of(&advice, "route").fit, Fit::Fits);
    assert_eq!(of(&advice, "wireguard").fit, Fit::RuledOut);
}

#[test]
fn a_need_that_no_rule_knows_is_shown_and_one_that_is_new_rules_out() {
    let mut run = run();
    let route = run
        .methods
        .iter_mut()
        .find(|it| it.id.as_str() == "route")
        .unwrap();
    route.needs = vec!["network: a carrier \u{1b}[31mpigeon".to_owned()];
    let socks = run
        .methods
        .iter_mut()
        .find(|it| it.id.as_str() == "socks")
        .unwrap();
    socks.needs.push("laptop: root, to dig".to_owned());
    let advice = choose(
        &team("[rights]\nnode_ports = \"team\"\n"),
        Source::Run(&run),
    );
    let reasons = &of(&advice, "route").reasons;
    let conditions = &of(&advice, "route").conditions;
    assert!(conditions.iter().any(|it| it.text.contains("pigeon")));
    assert!(
        reasons
            .iter()
            .any(|it| it.side == Side::Open && it.about.contains("no rule knows"))
    );
    assert_eq!(of(&advice, "socks").fit, Fit::RuledOut);
    let text = terminal(&advice);
    assert!(
        text.contains("pigeon") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn what_is_missing_in_a_run_is_said_and_never_a_pass() {
    let mut run = run();
    let rich = "[laptops]\nroot = \"yes\"\n[rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n\
                [needs]\nudp = true\n";
    run.probes.retain(|it| !it.id.starts_with("fidelity/udp"));
    run.summary.clear();
    run.run.status = Status::Partial;
    run.methods.retain(|it| it.id.as_str() != "socks");
    let advice = choose(&team(rich), Source::Run(&run));
    assert_eq!(methods(&advice), ["route", "wireguard", "forward"]);
    let route = of(&advice, "route");
    assert_eq!(route.fit, Fit::FitsIf);
    assert!(
        route
            .conditions
            .iter()
            .any(|it| it.text.contains("fidelity/udp-echo"))
    );
    let text = terminal(&advice);
    for said in [
        "fidelity/udp-echo, fidelity/udp-sizes: not measured",
        "not measured in this run",
        "socks",
        "not complete",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_silence_is_held_against_what_is_tolerated() {
    let run = run();
    let with = |seconds: u32| {
        team(&format!(
            "[laptops]\nroot = \"yes\"\n[rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n\
             [needs]\ntolerated_silence_s = {seconds}\n"
        ))
    };
    let strict = choose(&with(5), Source::Run(&run));
    assert_eq!(of(&strict, "wireguard").fit, Fit::RuledOut);
    assert_ne!(of(&strict, "socks").fit, Fit::RuledOut);
    // It has no part of its own that could restart.
    assert_eq!(of(&strict, "route").fit, Fit::Fits);
    let text = terminal(&strict);
    let words: Vec<&str> = text.split_whitespace().collect();
    let said = "lifecycle/gateway-restart: pass, unmodified (15.8 s without an answer)";
    assert!(words.join(" ").contains(said), "{text}");
    assert_eq!(
        of(&choose(&with(60), Source::Run(&run)), "wireguard").fit,
        Fit::Fits
    );
}

#[test]
fn what_matters_decides_between_methods_that_take_equally_little() {
    let rich = |matters: &str| {
        let text = format!(
            "matters = \"{matters}\"\n[laptops]\nroot = \"yes\"\n\
             [rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n"
        );
        choose(&team(&text), Source::Run(&run()))
    };
    let effort = rich("effort");
    assert_eq!(methods(&effort)[..2], ["route", "wireguard"]);
    assert!(matches!(
        effort.ranking[0].ahead,
        Some(Ahead::Order {
            within_noise: Some(_)
        })
    ));
    // Three blocks do not tell the rates apart.
    let throughput = rich("throughput");
    assert_eq!(methods(&throughput)[0], "route");
    assert!(terminal(&throughput).contains("noise does not tell"));
    for matters in ["latency", "cost"] {
        let advice = rich(matters);
        assert_eq!(methods(&advice)[0], "route", "{matters}");
        assert!(
            matches!(advice.ranking[0].ahead, Some(Ahead::Figure { .. })),
            "{matters}"
        );
    }
    // The other way round, as soon as the figures are.
    let mut other = run();
    for line in &mut other.summary {
        let swapped = match line.method.as_str() {
            "route" => "wireguard",
            "wireguard" => "route",
            _ => continue,
        };
        line.method = swapped.parse::<MethodId>().unwrap();
    }
    let text = "matters = \"latency\"\n[laptops]\nroot = \"yes\"\n\
                [rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n";
    assert_eq!(
        methods(&choose(&team(text), Source::Run(&other)))[0],
        "wireguard"
    );
}

#[test]
fn a_driver_that_takes_nothing_is_reached_by_what_needs_nothing() {
    let text = "[laptops]\nroot = \"yes\"\n[rights]\nprivileged_pods = \"team\"\nnode_ports = \"team\"\n\
                [[workload]]\nname = \"mongo-replica-set\"\ndriver = []\n";
    let advice = choose(&team(text), Source::Run(&run()));
    assert_eq!(of(&advice, "socks").fit, Fit::RuledOut);
    assert_eq!(of(&advice, "forward").fit, Fit::RuledOut);
    assert_eq!(of(&advice, "route").fit, Fit::Fits);
}

#[test]
fn hostile_texts_reach_no_terminal_and_the_answer_is_json() {
    let mut run = run();
    for method in &mut run.methods {
        method.title = "a\u{1b}]0;title\u{7}\n\n\u{202e}b".to_owned();
    }
    run.run.id = "x\u{9b}2J".to_owned();
    probe_mut(&mut run, "fidelity/http", "forward").reason = Some("z\u{1b}c".repeat(400));
    let advice = choose(&team("name = \"\\u001b[2Jevil\"\n"), Source::Run(&run));
    let text = terminal(&advice);
    let bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.chars().any(bad), "{text:?}");
    assert!(text.contains("[2Jevil"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let json = serde_json::to_value(&advice).unwrap();
    assert_eq!(json["ranking"].as_array().map(Vec::len), Some(4));
    assert_eq!(json["run"]["profile"], "quick");
}
