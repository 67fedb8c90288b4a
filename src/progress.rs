//! What happens, on standard error: a bar with the time left on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use inroads_harness::clock::Stopwatch;
use inroads_harness::event::{Event, Observer};
use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::Verdict;

/// The bar's steps: tenths of a second of the estimate.
const STEPS_PER_SECOND: f64 = 10.0;

/// Shows a run as it goes.
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    since: Stopwatch,
    left: Mutex<Option<Duration>>,
}

impl Progress {
    /// A bar, if standard error is a terminal.
    pub(crate) fn start() -> Self {
        let plain = !std::io::stderr().is_terminal();
        // Drawn ten times a second at most: it must not take time from what is measured.
        let target = if plain {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {prefix:>8} left  {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self {
            bar,
            plain,
            since: Stopwatch::start(),
            left: Mutex::default(),
        }
    }

    /// Says what is being done now.
    pub(crate) fn step(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if self.plain {
            let left = self.left.lock().ok().and_then(|left| *left);
            let left = left
                .map(|left| format!(", about {} left", clock(left)))
                .unwrap_or_default();
            self.line(&format!("[{}{left}] {text}", clock(self.since.elapsed())));
        }
    }

    /// Says something that stays on the screen.
    pub(crate) fn say(&self, text: &str) {
        if self.plain {
            self.line(text);
        } else {
            self.bar.println(text);
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    #[expect(clippy::unused_self, reason = "the other half of `say`")]
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

impl Observer for Progress {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Phase(text) => self.step(text),
            Event::Progress { done, total } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a run's time is short"
                )]
                let steps = |time: &Duration| (time.as_secs_f64() * STEPS_PER_SECOND) as u64;
                self.bar.set_length(steps(total));
                self.bar.set_position(steps(done));
                let left = total.saturating_sub(*done);
                self.bar.set_prefix(clock(left));
                if let Ok(mut known) = self.left.lock() {
                    *known = Some(left);
                }
            }
            Event::Able(methods) => {
                let methods: Vec<&str> = methods.iter().map(MethodId::as_str).collect();
                self.say(&format!("can run from here: {}", methods.join(", ")));
            }
            Event::Connected { method, setup } => {
                self.say(&format!(
                    "{method:<12} connected after {:.2} s",
                    setup.as_secs_f64()
                ));
            }
            Event::Probed(probe)
                if probe.verdict == Verdict::NotRun && probe.foreseen != Some(Outcome::NotRun) =>
            {
                let reason = probe.reason.as_deref().unwrap_or("no reason given");
                self.say(&format!(
                    "{:<12} {} not run: {reason}",
                    probe.method, probe.id
                ));
            }
            Event::Measured {
                method,
                scenario,
                load,
                ..
            } => {
                self.bar
                    .set_message(format!("{method} · {scenario} · {load}"));
            }
            // Many in a short run: the table counts them, the report names them.
            Event::Warned(warning) if warning.is_caution() => {
                tracing::info!("{}", warning.text);
            }
            Event::Warned(warning) => self.say(&format!("warning: {}", warning.text)),
            Event::Probed(_) => {}
        }
    }
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
