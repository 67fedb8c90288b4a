//! Agents: this same program, at work on a laptop or in a pod, taking orders from the controller.
//!
//! An agent reads orders as JSON lines and answers each in its turn. The end of its input is its end:
//! whatever it changed is undone, so a controller that dies takes its laptops' changes with it.

mod client;
mod protocol;
mod serve;

pub use client::{Agent, AgentError};
pub use protocol::{Answer, Order, Usage};
pub use serve::{Repertoire, serve};
