//! Reading procfs: one thin reader over a verified /proc, and pure parsers of what its files say.
//!
//! A process may vanish between any two reads, and its files may be closed to us: both are normal, so readers give
//! [`std::io::Result`] and the model decides. What a process chose itself (comm, argv, paths) is escaped here, once.

pub mod cgroup;
pub mod idmap;
pub mod mountinfo;
pub mod nslink;
pub mod pressure;
mod reader;
pub mod stat;
pub mod status;
pub mod sysvipc;

pub use reader::{Device, Identity, Proc, identity, is_gone, numbers, numbers_of_proc};
