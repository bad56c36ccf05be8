//! The verbs of `container`, one a file.

pub mod delete;
pub mod demo;
pub mod doctor;
pub mod exec;
pub mod list;
pub mod plan;
pub mod run;
pub mod show;
pub mod signals;
pub mod unshare;
pub mod up;
