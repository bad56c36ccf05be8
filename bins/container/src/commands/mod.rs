//! The verbs of `container`, one a file.

pub mod delete;
pub mod list;
pub mod run;
pub mod show;
pub mod signals;
