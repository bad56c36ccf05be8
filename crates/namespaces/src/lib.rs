//! drydock-namespaces: what a process can see, and how to change it (namespaces(7)).
//!
//! - [`kind`]: the eight namespace types, and sets of them as clone(2) flags;
//! - [`nsfile`]: the files that stand for namespaces, their identity and type;
//! - [`process`]: a target process, held so that its pid cannot come to mean another;
//! - [`idmap`]: user and group id maps of a user namespace, written by the parent;
//! - [`subid`]: the id ranges that a user may map (/etc/subuid, /etc/subgid);
//! - [`join`]: enter existing namespaces (setns(2));
//! - [`create`]: make new ones around a command (clone3(2), unshare(2)); [`kept`]: those that stay without a process;
//! - [`refusal`]: why the kernel said no;
//! - [`time`]: clock offsets of a time namespace;
//! - [`credentials`] and [`exec`]: what the child does last: ids, capabilities, signals, descriptors, execve(2).

pub mod create;
pub mod credentials;
pub mod exec;
pub mod idmap;
pub mod join;
pub mod kept;
pub mod kind;
pub mod nsfile;
pub mod process;
pub mod refusal;
pub mod relay;
pub mod subid;
pub mod time;

pub use idmap::IdMap;
pub use kind::{Kind, Set};
pub use nsfile::NamespaceId;
