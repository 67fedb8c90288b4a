//! A run as the page's sections ask for it.

use inroads_harness::access::Effort;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{Measurement, Run, ScenarioInfo, Summary, Unit};
use maud::{Markup, html};

use super::chart::{PENS, Pen, marker};
use crate::again::stand_ins;

/// The method that all others are held against.
const CONTROL: &str = "direct";

/// What every operation's time is recorded as, from when it should have begun.
pub(crate) const LATENCY: &str = "latency";

/// A run as the page's sections ask for it.
pub(crate) struct View<'a> {
    pub(crate) run: &'a Run,
    /// In report order.
    pub(crate) methods: Vec<&'a MethodId>,
}

impl<'a> View<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        let methods = run.methods.iter().map(|method| &method.id).collect();
        Self { run, methods }
    }

    /// The methods that are held against the control.
    pub(crate) fn contenders(&self) -> impl Iterator<Item = &'a MethodId> {
        let all = self.methods.iter().copied();
        all.filter(|id| !is_control(id))
    }

    /// The number of a method's pen: 0 is the control's.
    pub(crate) fn pen(&self, method: &MethodId) -> usize {
        if is_control(method) {
            return 0;
        }
        let place = self.contenders().position(|id| id == method);
        1 + place.unwrap_or_default() % (PENS - 1)
    }

    /// The scenarios that figures were asked of.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &'a ScenarioInfo> {
        let run = self.run;
        run.scenarios.iter().filter(|scenario| {
            let mut all = run.measurements.iter();
            all.any(|it| it.scenario == scenario.id)
        })
    }

    /// The metrics of a scenario, in the order in which they were measured.
    pub(crate) fn metrics(&self, scenario: &str) -> Vec<(&'a str, Unit)> {
        let mut metrics: Vec<(&str, Unit)> = Vec::new();
        for it in self
            .run
            .measurements
            .iter()
            .filter(|it| it.scenario == scenario)
        {
            if !metrics.iter().any(|(name, _)| *name == it.metric) {
                metrics.push((&it.metric, it.unit));
            }
        }
        metrics
    }

    /// The line of the summary for a cell.
    pub(crate) fn summary(
        &self,
        method: &MethodId,
        scenario: &str,
        metric: &str,
    ) -> Option<&'a Summary> {
        self.run
            .summary
            .iter()
            .find(|it| it.method == *method && it.scenario == scenario && it.metric == metric)
    }

    /// What was measured of a cell, valid or not, a figure for each block.
    pub(crate) fn blocks(
        &self,
        method: &MethodId,
        scenario: &str,
        metric: &str,
    ) -> Vec<&'a Measurement> {
        self.run
            .measurements
            .iter()
            .filter(|it| it.method == *method && it.scenario == scenario && it.metric == metric)
            .collect()
    }

    /// Those of them that may be used.
    pub(crate) fn valid(
        &self,
        method: &MethodId,
        scenario: &str,
        metric: &str,
    ) -> Vec<&'a Measurement> {
        let mut all = self.blocks(method, scenario, metric);
        all.retain(|it| it.valid);
        all
    }

    /// How many blocks there are.
    pub(crate) fn block_count(&self) -> u32 {
        let blocks = self.run.measurements.iter().map(|it| it.block);
        blocks.max().map_or(0, |last| last.saturating_add(1))
    }

    /// What is ours in the place of something else.
    pub(crate) fn stand_ins(&self) -> Vec<&'a str> {
        stand_ins(self.run)
    }

    /// Stands beside every figure that a stand-in touched: what serves the cluster touches them all.
    pub(crate) fn stand_in_note(&self) -> Markup {
        let names = self.stand_ins();
        html! {
            @if !names.is_empty() {
                p.stand-in {
                    span aria-hidden="true" { "◇ " }
                    "Measured with stand-ins: " (names.join(", ")) ". "
                    a href="#components" { "What they stand for" }
                }
            }
        }
    }

    /// The same, short, beside a drawing.
    pub(crate) fn stand_in_sign(&self) -> Markup {
        html! {
            @if !self.stand_ins().is_empty() {
                " " a.stand-in href="#components" { "◇ stand-ins" }
            }
        }
    }

    /// A method's name behind its line and marker.
    pub(crate) fn name(&self, method: &MethodId) -> Markup {
        let pen = self.pen(method);
        let corners = marker(pen, 1).into_iter();
        let points: Vec<String> = corners
            .map(|(x, y)| format!("{},{}", x + 15, y + 6))
            .collect();
        html! {
            span.method {
                svg.key viewBox="0 0 30 12" aria-hidden="true" {
                    line class=(Pen::Line(pen).class()) x1="0" x2="30" y1="6" y2="6" {}
                    polygon class=(Pen::Fill(pen).class()) points=(points.join(" ")) {}
                }
                (method)
            }
        }
    }

    /// All methods with their lines and markers.
    pub(crate) fn legend(&self) -> Markup {
        html! {
            ul.legend aria-label="Methods" {
                @for method in &self.methods { li { (self.name(method)) } }
            }
        }
    }
}

/// Whether it is the method that all others are held against.
pub(crate) fn is_control(method: &MethodId) -> bool {
    method.as_str() == CONTROL
}

/// Beside a figure for which the client had to be changed.
pub(crate) fn effort_sign(effort: Effort) -> Markup {
    html! {
        @if effort != Effort::Unmodified {
            span.effort title=(format!("client {effort}")) {
                "◐" span.unseen { " client " (effort) }
            }
        }
    }
}

/// A section of the page.
pub(crate) fn section(id: &str, title: &str, about: &str, body: Markup) -> Markup {
    html! {
        section #(id) aria-labelledby=(format!("{id}-title")) {
            h2 #(format!("{id}-title")) { (title) }
            @if !about.is_empty() { p.about { (about) } }
            (body)
        }
    }
}

/// A table that is wider than a telephone: it scrolls by itself, with the keyboard too.
pub(crate) fn wide(label: &str, table: Markup) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label=(label) { (table) }
    }
}

/// What stands where there is nothing to show.
pub(crate) fn none(text: &str) -> Markup {
    html! { p.none { (text) } }
}
