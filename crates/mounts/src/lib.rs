//! drydock-mounts: the inside of a container's mount namespace, planned and then made; and mounts on the host.
//!
//! - [`request`]: what is asked ([`Request`]), [`defaults`]: what a container gets when nothing else is asked;
//! - [`plan`]: the [`Request`] checked and put in order as [`Action`]s; [`apply`]: the plan carried out in the child;
//! - [`options`]: option words as in fstab(5); [`overlay`], [`propagation`], [`dev`], [`mask`], [`cgroup`], [`pivot`]:
//!   one kernel concept each;
//! - [`sources`]: what only the parent, outside the container's user namespace, can open for it;
//! - [`inside`]: paths of a hostile root file system, resolved without ever leaving it;
//! - [`places`]: mount points for mounts that somebody else makes;
//! - [`layers`]: the directories of a container's own overlay;
//! - [`table`]: /proc/PID/mountinfo; [`host`]: overlay, bind and tmpfs mounts in the caller's own namespace.
//!
//! Sources: mount(2), mount_namespaces(7), pivot_root(2), openat2(2), and the kernel's
//! Documentation/filesystems/{overlayfs,sharedsubtree,tmpfs,proc}.rst.

pub mod action;
pub mod apply;
pub mod cgroup;
mod copyup;
pub mod defaults;
pub mod dev;
mod explain;
pub mod host;
mod idmap;
pub mod inside;
mod label;
pub mod layers;
pub mod mask;
pub mod options;
pub mod overlay;
pub mod pivot;
pub mod places;
pub mod plan;
pub mod propagation;
pub mod request;
pub mod sources;
pub mod table;

pub use action::Action;
pub use apply::Report;
pub use overlay::{Overlay, Scratch};
pub use pivot::Pivot;
pub use plan::Plan;
pub use propagation::Propagation;
pub use request::{Device, DeviceKind, IdMapping, InjectedFile, Mount, Request, Root, Symlink};
pub use sources::Sources;
