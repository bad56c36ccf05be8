//! drydock-supervise: what watches a container's first process: waiting, forwarding signals, reaping, terminals, logs.

pub mod exec;
pub mod log;
pub mod reap;
pub mod terminal;
pub mod wait;

pub use wait::{Blocked, Supervised, wait_exit};
