//! The program from outside: the built binary, driven as a user drives it, and ended as users and
//! machines end things.
//!
//! Tests that start a lab take turns ([`program::turn`]), so that they neither measure nor starve each
//! other. What needs a tool that is not here says so on standard error and is skipped.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "all of this is test code, helpers included"
)]

mod bench;
mod cli;
mod faults;
mod gate;
mod kind;
mod kubectl;
mod machine;
mod many;
mod mongo;
mod peers;
mod program;
mod redis;
mod shell;
