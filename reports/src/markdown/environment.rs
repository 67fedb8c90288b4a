//! Methods and environment in Markdown: what was measured, and where.

use inroads_harness::run::{Provenance, Run, Unit};

use super::write;
use crate::again::again;
use crate::escape::{markdown as escape, markdown_code as code};
use crate::figures::figure;

pub(super) fn environment(text: &mut String, run: &Run) {
    let environment = &run.environment;
    write(
        text,
        "## Methods\n\n| method | is | needs | set up in |\n| --- | --- | --- | --: |\n",
    );
    for method in &run.methods {
        let needs: Vec<String> = method.needs.iter().map(|need| escape(need)).collect();
        let setup = method
            .setup_ms
            .map(|ms| figure(ms / 1e3, Unit::Seconds))
            .unwrap_or_default();
        write(
            text,
            &format!(
                "| {} | {} | {} | {setup} |\n",
                method.id,
                escape(&method.title),
                needs.join("<br>")
            ),
        );
    }
    write(text, "\n## Environment\n\n");
    write(
        text,
        &format!(
            "- {} cores of {}, Linux {}\n",
            environment.cores,
            escape(&environment.cpu),
            escape(&environment.kernel)
        ),
    );
    let cluster = &environment.cluster;
    write(
        text,
        &format!(
            "- cluster: {} {}, {} nodes; pods: {}; Services: {}\n",
            escape(&cluster.kind),
            escape(&cluster.kubernetes),
            cluster.nodes,
            escape(&cluster.cni),
            escape(&cluster.kube_proxy)
        ),
    );
    if let Some(laptops) = &environment.laptops {
        let line = format!(
            "- laptops: {} for each method at once, {}; rates are those of all together\n",
            laptops.count,
            escape(&laptops.place)
        );
        write(text, &line);
    }
    write(
        text,
        &format!(
            "- build: {}; profile: {}; seed: {}\n",
            escape(&environment.build_profile),
            escape(&run.run.profile),
            run.run.seed
        ),
    );
    write(text, "- components:\n");
    for component in &environment.components {
        let stand_in = if component.provenance == Provenance::StandIn {
            " (**stand-in**)"
        } else {
            ""
        };
        write(
            text,
            &format!(
                "  - {}: {}{stand_in}\n",
                escape(&component.name),
                escape(&component.version)
            ),
        );
    }
    write(
        text,
        &format!(
            "- comparable with runs of: {}\n\n",
            code(&environment.comparable_key)
        ),
    );
    write(text, &format!("To do it again: {}\n", code(&again(run))));
}
