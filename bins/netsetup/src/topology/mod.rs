//! Whole topologies from a file: made by `apply`, proved by `check --matrix`.

pub mod apply;
pub mod file;
pub mod matrix;
