//! Where the figures come from: machine, components, and how to have them again.

use inroads_harness::run::Provenance;
use maud::{Markup, html};

use super::view::{View, section, wide};
use crate::again::again;

pub(crate) fn origin(view: &View<'_>) -> Markup {
    let run = view.run;
    let (environment, cluster) = (&run.environment, &run.environment.cluster);
    let body = html! {
        dl.facts {
            div { dt { "Machine" } dd { (environment.cores) " cores of " (environment.cpu) } }
            div { dt { "Kernel" } dd { "Linux " (environment.kernel) } }
            div { dt { "Cluster" } dd { (cluster.kind) " " (cluster.kubernetes) ", " (cluster.nodes) " nodes" } }
            div { dt { "Pods" } dd { (cluster.cni) } }
            div { dt { "Services" } dd { (cluster.kube_proxy) } }
            div { dt { "Build" } dd { "Inroads " (environment.inroads) ", " (environment.build_profile) } }
            @if let Some(laptops) = &environment.laptops {
                div { dt { "Laptops" } dd { (laptops.count) " for each method at once, " (laptops.place)
                    "; rates are those of all together" } }
            }
            div.fingerprint { dt { "Comparable with runs of" } dd { code { (environment.comparable_key) } } }
        }
        h3 #components { "Components" }
        (wide("Components", components(view)))
        h3 { "To do it again" }
        pre tabindex="0" { code { (again(run)) } }
        p {
            "The raw data, every figure and histogram, is " code { "run.json" } " beside this file; each report can be rendered \
             from it again."
        }
    };
    section("environment", "Where it comes from", "", body)
}

fn components(view: &View<'_>) -> Markup {
    html! {
        table {
            caption { "What had a part in the figures" }
            thead { tr { th scope="col" { "component" } th scope="col" { "version" } th scope="col" { "provenance" } } }
            tbody { @for component in &view.run.environment.components {
                tr {
                    th scope="row" { (component.name) }
                    td { (component.version) }
                    td {
                        @match component.provenance {
                            Provenance::Real => { "the thing itself" }
                            Provenance::StandIn => { strong.stand-in { "◇ stand-in" } ", ours in its place" }
                        }
                    }
                }
            } }
        }
    }
}
