//! `container up`: from a Compose file to containers.
//!
//! [`mod@file`] finds and reads it, [`tree`] is what it says, [`vars`] replaces its variables, [`service`] and [`network`] give
//! it meaning, [`project`] is the whole, checked; [`session`] starts it, shows its output and takes it down again.
//! Source: the Compose specification, <https://github.com/compose-spec/compose-spec>.

pub mod file;
pub mod mounts;
pub mod network;
pub mod output;
pub mod project;
pub mod service;
pub mod session;
pub mod tree;
pub mod vars;
pub mod words;

/// Label: the project that a container belongs to.
pub const PROJECT: &str = "drydock.project";
/// Label: the service that a container is.
pub const SERVICE: &str = "drydock.service";
/// Label: when the container was started among those of its project; they are stopped in reverse.
pub const ORDER: &str = "drydock.order";
