//! `inroads list`.

use std::fmt::Write as _;

use inroads_harness::comparison::RULES;
use inroads_harness::plan::PROFILES;
use serde_json::json;

use super::print;
use crate::agents::repertoire;
use crate::cli::List;

/// Prints what there is.
pub(crate) fn run(arguments: &List) -> anyhow::Result<()> {
    if arguments.rules {
        return print(RULES);
    }
    let repertoire = repertoire();
    if arguments.json {
        let methods = repertoire.methods.iter().map(|method| {
            json!({
                "id": method.id(), "title": method.title(), "summary": method.summary(),
                "needs": method.needs(), "exposes": method.exposes(), "peer": method.peer(),
            })
        });
        let scenarios = repertoire.scenarios.iter().map(|scenario| {
            json!({
                "id": scenario.id(), "title": scenario.title(), "summary": scenario.summary(),
                "probes": scenario.probes().iter().map(|probe| probe.id).collect::<Vec<_>>(),
                "loads": scenario.loads().iter().map(|load| load.id).collect::<Vec<_>>(),
            })
        });
        let all = json!({ "methods": methods.collect::<Vec<_>>(), "scenarios": scenarios.collect::<Vec<_>>() });
        return print(&format!("{all}\n"));
    }
    let mut text = "Methods\n".to_owned();
    for method in &repertoire.methods {
        writeln!(text, "  {:<21} {}", method.id(), method.summary())?;
        if let Some(peer) = method.peer() {
            writeln!(
                text,
                "  {:<21}   a peer: `--peer {peer}` adds it, `all` does not",
                ""
            )?;
        }
        for need in method.needs() {
            writeln!(text, "  {:<21}   needs {need}", "")?;
        }
    }
    text += "\nScenarios\n";
    for scenario in &repertoire.scenarios {
        writeln!(text, "  {:<12} {}", scenario.id(), scenario.summary())?;
        for probe in scenario.probes() {
            writeln!(text, "  {:<12}   {:<22} {}", "", probe.id, probe.asks)?;
        }
        for load in scenario.loads() {
            writeln!(text, "  {:<12}   {:<22} {}", "", load.id, load.title)?;
        }
    }
    text += "\nProfiles\n";
    for line in PROFILES.lines() {
        writeln!(text, "  {line}")?;
    }
    print(&text)
}
