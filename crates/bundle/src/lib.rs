//! drydock-bundle: what a container is on disk: its state directory, its locks, and OCI bundles.

pub mod config;
pub mod remove;
pub mod state;
pub mod store;

pub use config::Bundle;
pub use state::{Life, State};
pub use store::{Entry, Held, Store};
