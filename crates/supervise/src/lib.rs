//! drydock-supervise: what watches a container's first process: waiting, forwarding signals, reaping, terminals, logs.

pub mod foreground;
pub mod job;
pub mod left;
pub mod log;
pub mod reap;
pub mod relay;
pub mod signals;
pub mod terminal;
pub mod wait;

pub use drydock_core::exec;
pub use foreground::wait_in_foreground;
pub use wait::{Blocked, Supervised, wait_exit};
