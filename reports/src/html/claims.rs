//! The article's claims, and what the run says to each.

use inroads_harness::run::{Claim, ClaimVerdict};
use maud::{Markup, html};

use super::view::{View, none, section, wide};

pub(crate) fn claims(view: &View<'_>) -> Markup {
    let about = "What the article says that this comparison set out from, and what this run has seen of it.";
    let body = html! {
        @if view.run.claims.is_empty() {
            (none("This run answers no claims."))
        } @else {
            (wide("Claims", table(&view.run.claims)))
            (view.stand_in_note())
        }
    };
    section("claims", "What the article claims", about, body)
}

fn table(claims: &[Claim]) -> Markup {
    html! {
        table.claims {
            caption { "Claims and answers" }
            thead { tr {
                th scope="col" { "no." }
                th scope="col" { "claim" }
                th scope="col" { "answer" }
                th scope="col" { "what was seen, and how to ask again" }
            } }
            tbody { @for claim in claims {
                tr {
                    td.num { (claim.id) }
                    th scope="row" { (claim.claim) }
                    td { (answer(claim.verdict)) }
                    td {
                        p { (claim.evidence) }
                        @if !claim.probes.is_empty() || !claim.figures.is_empty() {
                            p.rests {
                                "rests on "
                                @for id in claim.probes.iter().chain(&claim.figures) { code { (id) } " " }
                            }
                        }
                        @if !claim.redo.is_empty() { p.rests { "again: " code { (claim.redo) } } }
                    }
                }
            } }
        }
    }
}

fn answer(verdict: ClaimVerdict) -> Markup {
    let (class, mark, word) = match verdict {
        ClaimVerdict::Upheld => ("pass", "✔", "upheld"),
        ClaimVerdict::Refuted => ("fail", "✘", "refuted"),
        ClaimVerdict::Depends => ("part", "◐", "depends"),
        ClaimVerdict::NotShown => ("not", "–", "not shown"),
    };
    html! { span.answer.(class) { span aria-hidden="true" { (mark) } " " (word) } }
}
