//! What every form says of a run: how to do it again, and what was a stand-in.

use inroads_harness::run::{Provenance, Run};

/// The command of a run, with the seed that it had, given or drawn, where the command takes one.
pub(crate) fn again(run: &Run) -> String {
    seeded(&run.run.command, run.run.seed)
}

fn seeded(command: &str, seed: u64) -> String {
    let mut words = command.split_whitespace();
    let has_one = words.any(|word| word == "--seed" || word.starts_with("--seed="));
    let takes_one = !command.starts_with("inroads conform");
    if has_one || !takes_one {
        command.to_owned()
    } else {
        format!("{command} --seed {seed}")
    }
}

/// What is ours in the place of something else: of what serves a cluster, every figure has some.
pub(crate) fn stand_ins(run: &Run) -> Vec<&str> {
    let components = run.environment.components.iter();
    components
        .filter(|it| it.provenance == Provenance::StandIn)
        .map(|it| it.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_said_once_and_where_it_is_taken() {
        for (command, again) in [
            ("inroads bench all", "inroads bench all --seed 7"),
            ("inroads bench all --seed 7", "inroads bench all --seed 7"),
            ("inroads bench all --seed=7", "inroads bench all --seed=7"),
            ("inroads conform all", "inroads conform all"),
        ] {
            assert_eq!(seeded(command, 7), again);
        }
    }
}
