//! What the machine's processes, namespaces and cgroups look like, put together from what [`crate::procfs`] reads.

pub mod cables;
pub mod cgroups;
pub mod digits;
pub mod foreign;
pub mod graph;
pub mod hidden;
pub mod inspect;
pub mod ipc;
pub mod machine;
pub mod mounts;
pub mod names;
pub mod namespaces;
pub mod network;
pub mod processes;
pub mod relations;
pub mod runtimes;
pub mod sampler;
pub mod scan;
pub mod sockets;
pub mod target;
pub mod types;
pub mod units;
pub mod usage;
pub mod users;
