//! System calls that nix and rustix lack or offer only as unsafe. Each function is safe to call and says in its
//! SAFETY comments why; one module a kernel concept. Nothing else in the workspace is unsafe.

pub mod bpf;
pub mod fd;
pub mod inheritance;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod ns;
pub mod numa;
pub mod perf;
pub mod personality;
pub mod pidfd;
pub mod probe;
pub mod process;
pub mod ptrace;
pub mod pty;
pub mod sched;
pub mod seccomp;
pub mod shared;
pub mod signal;
pub mod tracing;
