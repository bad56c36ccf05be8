//! drydock-security: what is dropped and fixed on a process right before it execs the command.
//!
//! A [`Request`] (capabilities, filter, limits, ids, labels) is checked and compiled by [`Request::validate`] in the
//! parent; [`Plan::apply`] takes the steps in the child, in the one order that the kernel allows.
//!
//! - [`capset`], [`capabilities`]: names and sets; Docker's add and drop;
//! - [`seccomp`]: profiles, our compiler, our default profile;
//! - [`user`]: names to ids by the container's own passwd and group files, which are hostile;
//! - [`security_opt`]: `--security-opt` words;
//! - [`scheduling`], [`numa`], [`personality`]: CPUs, priorities, memory nodes, execution domain;
//! - [`rdt`]: cache and memory bandwidth, set up by the parent;
//! - [`lsm`], [`rlimit`], [`inherited`]: labels, limits, and state that must not be inherited.

pub mod apply;
pub mod capabilities;
pub mod capset;
mod defaults;
mod explain;
pub mod inherited;
mod list;
pub mod lsm;
pub mod numa;
pub mod personality;
mod phases;
pub mod plan;
mod procfs;
pub mod rdt;
pub mod request;
pub mod rlimit;
pub mod scheduling;
mod sealed;
pub mod seccomp;
mod security_opt;
pub mod user;

pub use apply::Report;
pub use capabilities::{Capabilities, CapabilityNames};
pub use capset::{CapSet, last_cap};
pub use inherited::reset_inherited;
pub use lsm::lsm_active;
pub use numa::MemoryPolicy;
pub use personality::Personality;
pub use phases::Ahead;
pub use plan::{Action, Plan};
pub use request::{Request, Rlimit, Seccomp, User};
pub use scheduling::{ExecCpuAffinity, IoPriority, Scheduler};
pub use sealed::run_sealed;
pub use seccomp::{Handover, Listener};
pub use security_opt::security_opt;
