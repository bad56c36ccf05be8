//! One module a group of subcommands: arguments → request → report.

pub mod address;
pub mod attach;
pub mod bridge;
pub mod dns;
pub mod etc;
pub mod gc;
pub mod limit;
pub mod link;
pub mod nat;
pub mod ns;
pub mod publish;
pub mod show;
pub mod topology;
pub mod undo;
