//! What the machine's processes, namespaces and cgroups look like, put together from what [`crate::procfs`] reads.

pub mod cgroups;
pub mod inspect;
pub mod ipc;
pub mod mounts;
pub mod namespaces;
pub mod processes;
pub mod relations;
pub mod scan;
pub mod target;
pub mod types;
pub mod usage;
