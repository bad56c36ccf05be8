//! drydock-bundle: what a container is on disk: its state directory, its locks, and OCI bundles.

pub mod config;
pub mod events;
pub mod hooks;
pub mod remove;
pub mod state;
pub mod store;

pub use config::Bundle;
pub use hooks::{Hook, Hooks};
pub use state::{Life, OciState, State};
pub use store::{Entry, Held, Pin, Store};
