//! drydock-core: what every other crate stands on.
//!
//! - [`stage`]: the contract `Request → Plan → Report`, its steps, and who watches them;
//! - [`error`]: one failure, as one sentence with its call, errno and remedy;
//! - [`exit`]: the exit codes that all tools share;
//! - [`journal`]: what a container owns, written down before it is made;
//! - [`id`], [`paths`], [`size`], [`text`]: names, places, numbers and output that is safe to print;
//! - [`replace`](mod@replace): a file's new content;
//! - [`sys`]: the system calls that nix and rustix lack. The only unsafe code of the workspace.

pub mod error;
pub mod exec;
pub mod exit;
pub mod failpoint;
pub mod id;
pub mod journal;
pub mod paths;
pub mod replace;
pub mod size;
pub mod stage;
// The kernel's own interface: reviewed block by block, each with its SAFETY reason.
#[allow(unsafe_code)]
pub mod sys;
pub mod text;

pub use error::{Error, Kind, Result};
pub use id::ContainerId;
pub use journal::{Journal, Object};
pub use replace::replace;
pub use stage::{Ctx, Explain, Observer, Silent, Step};
