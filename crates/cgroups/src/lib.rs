//! drydock-cgroups: one model over cgroup v1, hybrid and v2.
//!
//! - [`Layout`]: which hierarchies there are, where, and where we may make cgroups;
//! - [`Limits`], [`Request`], [`Plan`], [`Report`]: the stage contract of `drydock-core`;
//! - [`Cgroup`]: an existing cgroup: join, list, freeze, kill, remove, statistics;
//! - [`systemd`]: the driver that has systemd make the cgroup;
//! - [`convert`]: v1 and v2 numbers for the same thing.
//!
//! Limits are always given as v2 means them and translated where v1 has the controller. What the kernel lacks is an
//! error, or, for a lenient request, an entry of [`Report::lacking`]; it is never left out in silence.
//! Source: cgroups(7), the kernel's admin-guide/cgroup-v2 and admin-guide/cgroup-v1.

mod check;
mod controllers;
pub mod convert;
mod deeds;
pub mod device;
mod devices;
mod effect;
mod events;
mod files;
mod filter;
mod freeze;
mod group;
mod grow;
mod items;
mod kill;
mod layout;
mod level;
mod limits;
mod list;
mod meter;
mod name;
mod needs;
mod oom;
mod owned;
mod plan;
mod portable;
mod procs;
pub mod psi;
mod readback;
mod request;
mod resources;
mod rules;
mod run;
mod setting;
mod stats;
mod step;
mod survey;
pub mod systemd;
mod translate;
#[cfg(feature = "v1-statistics")]
mod v1stats;
mod victims;

pub use controllers::Controller;
pub use events::{Event, Watch};
pub use group::{Cgroup, join};
pub use layout::{Hierarchy, Layout, Mode, Version};
pub use limits::{Limits, UNLIMITED};
pub use meter::Meter;
pub use name::{SHARED_PARENT, check_name};
pub use needs::{Figure, Needs};
pub use oom::OomWatch;
pub use plan::{Plan, Report, Setting};
pub use procs::describe_pids;
pub use psi::Trigger;
pub use request::{IfExists, Place, Request};
pub use resources::{CpuMax, DeviceWeight, IoMax, Rdma};
pub use rules::{DeviceRule, DeviceType};
pub use stats::{Cpu, Io, Memory, Pids, Pressure, PressureLine, Stats};
pub use survey::Brief;
pub use victims::{Victim, Victims};
