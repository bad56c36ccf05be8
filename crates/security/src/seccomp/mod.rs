//! System call filters: profiles as Docker and OCI write them, our own compiler to BPF, our default profile.
//! Source: seccomp(2), the kernel's Documentation/userspace-api/seccomp_filter.rst.

pub mod action;
mod agent;
mod allowed;
pub mod bpf;
pub mod compile;
pub mod condition;
pub mod default;
mod evaluate;
mod handover;
mod multiplex;
pub mod names;
mod oci;
pub mod profile;
pub(crate) mod select;
mod table;

pub use action::available_actions;
pub use agent::Listener;
pub use compile::{Filter, compile, known_flags};
pub use evaluate::Call;
pub use handover::Handover;
pub use names::Arch;
pub use profile::Profile;
pub(crate) use select::parse_release;

#[cfg(test)]
mod oci_tests;
#[cfg(test)]
mod tests;
