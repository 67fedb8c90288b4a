//! `inroads choose`: the questions on a terminal; what they come to is in `inroads_reports::choose`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use dialoguer::console::Term;
use dialoguer::{Confirm, Input, MultiSelect, Select};
use inroads_harness::run::MethodInfo;
use inroads_reports::choose::{
    Answer, Choice, Form, Interview, Question, Source, Team, choose, template, terminal,
};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use super::{print, report};
use crate::agents::repertoire;
use crate::cli::Choose;
use crate::exit::Exit;

/// Says which method fits a team.
pub(crate) async fn run(arguments: Choose) -> Exit {
    match answer(&arguments).await {
        Ok(()) => Exit::Success,
        Err(exit) => exit,
    }
}

async fn answer(arguments: &Choose) -> Result<(), Exit> {
    if arguments.template {
        return print(&template(&Team::default())).map_err(Exit::Failed);
    }
    // What cannot be carried out is found out before anybody answers twenty questions.
    let run = arguments.run.as_deref().map(report::read).transpose();
    let run = run.map_err(Exit::Failed)?;
    if let Some(file) = &arguments.save
        && file.exists()
    {
        return Err(Exit::usage(there_is(file)));
    }
    let team = match &arguments.team {
        Some(file) => read(file).map_err(Exit::Usage)?,
        None => on_terminal(ask).await?,
    };
    let declared = declared();
    let source = run
        .as_ref()
        .map_or(Source::Declared(&declared), Source::Run);
    let advice = choose(&team, source);
    let text = if arguments.json {
        serde_json::to_string_pretty(&advice).map_err(Exit::failed)? + "\n"
    } else {
        terminal(&advice)
    };
    print(&text).map_err(Exit::Failed)?;
    match &arguments.save {
        Some(file) => save(file, &team).map_err(Exit::Failed),
        None if arguments.team.is_none() => on_terminal(move || offer_to_save(&team)).await,
        None => Ok(()),
    }
}

fn read(file: &Path) -> anyhow::Result<Team> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| {
        format!("reading `{name}`\n(hint: `inroads choose --template` prints a team to begin with)")
    })?;
    Ok(Team::read(&text, &name)?)
}

/// What this program's methods declare, as a run would say it.
fn declared() -> Vec<MethodInfo> {
    let methods = repertoire().methods;
    let each = methods.iter().map(|method| MethodInfo {
        id: method.id(),
        title: method.title().to_owned(),
        needs: method.needs().iter().map(ToString::to_string).collect(),
        setup_ms: None,
        exposes: method.exposes().iter().map(ToString::to_string).collect(),
    });
    each.collect()
}

/// Has `talk` use the terminal. An interrupt ends it at once, and the terminal is left as it was.
async fn on_terminal<T: Send + 'static>(
    talk: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Exit> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Exit::usage(anyhow!(
            "no team is named, and there is no terminal to ask on\n(hint: `inroads choose --template > team.toml` \
             makes a file to fill in; name it with `--team team.toml`)"
        )));
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Exit::failed)?;
    let _as_it_was = Restored::now();
    let talked = tokio::select! {
        talked = tokio::task::spawn_blocking(talk) => talked.map_err(Exit::failed)?,
        _ = interrupt.recv() => return Err(Exit::Interrupted),
    };
    talked.map_err(|error| match error.downcast_ref::<dialoguer::Error>() {
        Some(dialoguer::Error::IO(io)) if io.kind() == ErrorKind::Interrupted => Exit::Interrupted,
        _ => Exit::Failed(error.context("asking on the terminal")),
    })
}

/// Gives the terminal back as it was: a prompt that is interrupted leaves it without its cursor, and one that is killed
/// while it waits for a key, raw.
struct Restored(Option<Termios>);

impl Restored {
    fn now() -> Self {
        Self(tcgetattr(std::io::stdin().as_fd()).ok())
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It may be gone, and then there is nothing to restore.
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, before);
        }
        let _ = Term::stderr().show_cursor();
    }
}

/// Asks all questions.
fn ask() -> anyhow::Result<Team> {
    let mut interview = Interview::default();
    while let Some(question) = interview.next() {
        let answered = prompt(question)?;
        if let Err(takes) = interview.answer(&answered) {
            say(&takes)?;
        }
    }
    Ok(interview.team()?)
}

fn prompt(question: &Question) -> dialoguer::Result<Answer> {
    let ask = &question.ask;
    let items = |choices: &[Choice]| -> Vec<String> {
        let each = choices.iter();
        each.map(|it| format!("{:<20} {}", it.value, it.meaning))
            .collect()
    };
    match (question.form, &question.default) {
        (Form::One(choices), default) => {
            let first = if let Answer::One(nth) = default {
                *nth
            } else {
                0
            };
            let select = Select::new().with_prompt(ask).items(items(choices));
            select.default(first).interact().map(Answer::One)
        }
        (Form::Several(choices, _), default) => {
            let chosen = |nth| matches!(default, Answer::Several(all) if all.contains(&nth));
            let chosen: Vec<bool> = (0..choices.len()).map(chosen).collect();
            let ask = format!("{ask} (space chooses, return goes on)");
            let select = MultiSelect::new().with_prompt(ask).items(items(choices));
            select.defaults(&chosen).interact().map(Answer::Several)
        }
        (Form::YesNo, default) => {
            let yes = *default == Answer::YesNo(true);
            let confirm = Confirm::new().with_prompt(ask).default(yes);
            confirm.interact().map(Answer::YesNo)
        }
        (Form::Whole(_) | Form::WholeOrNothing | Form::Words, default) => {
            let input = Input::<String>::new().with_prompt(ask).allow_empty(true);
            let input = match default {
                Answer::Words(text) if !text.is_empty() => input.default(text.clone()),
                _ => input,
            };
            input.interact_text().map(Answer::Words)
        }
    }
}

/// Offers to keep the answers, until there is a file that was not there, or nobody wants one.
fn offer_to_save(team: &Team) -> anyhow::Result<()> {
    let wanted = Confirm::new().with_prompt("Save the answers as a file for `--team`?");
    if !wanted.default(false).interact()? {
        return Ok(());
    }
    loop {
        let file = Input::<String>::new().with_prompt("Its name");
        let file = file.default("team.toml".to_owned()).interact_text()?;
        match save(Path::new(&file), team) {
            Ok(()) => return Ok(()),
            Err(error) => say(&format!("{error:#}"))?,
        }
    }
}

/// Writes a file that is not there yet.
fn save(file: &Path, team: &Team) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let mut opened = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => there_is(file),
        _ => anyhow!(error).context(format!("writing `{}`", file.display())),
    })?;
    let written = opened.write_all(template(team).as_bytes());
    written.with_context(|| format!("writing `{}`", file.display()))?;
    say(&format!(
        "the answers are in {0}: `inroads choose --team {0} RUN`",
        file.display()
    ))
}

fn there_is(file: &Path) -> anyhow::Error {
    let file = file.display();
    anyhow!("there is `{file}` already\n(hint: name another file, or remove it)")
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "{text}").context("writing to standard error")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use inroads_reports::choose::{is_known, probes};

    use super::*;

    #[test]
    fn every_need_of_the_methods_and_every_probe_of_the_rules_is_known() {
        let declared = declared();
        let ways = declared.iter().filter(|it| {
            let id = it.id.as_str();
            ["forward", "route", "socks", "wireguard"].contains(&id)
        });
        let needs: Vec<&String> = ways.flat_map(|it| &it.needs).collect();
        assert!(needs.len() > 10);
        for need in needs {
            assert!(is_known(need), "no rule knows `{need}`");
        }
        let scenarios = repertoire().scenarios;
        let known: BTreeSet<&str> = scenarios
            .iter()
            .flat_map(|it| it.probes().iter().map(|probe| probe.id))
            .collect();
        for id in probes() {
            assert!(known.contains(id), "no scenario asks `{id}`");
        }
    }

    #[test]
    fn answers_are_written_to_a_new_file_only_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("team.toml");
        save(&file, &Team::default()).unwrap();
        assert_eq!(read(&file).unwrap(), Team::default());
        let again = save(&file, &Team::default()).unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
        let missing = read(&folder.path().join("none.toml")).unwrap_err();
        assert!(missing.to_string().contains("(hint:"), "{missing}");
    }
}
