//! The verbs of `container`, one a file.

pub mod run;
