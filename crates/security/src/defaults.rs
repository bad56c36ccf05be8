//! What a container gets when nothing else is asked.

use crate::capabilities::Capabilities;
use crate::capset::CapSet;
use crate::request::{Request, Rlimit, Seccomp, User};

impl Request {
    /// Eight capabilities, the default filter, no_new_privs, 1024 descriptors (524288 if the command raises it), no core
    /// files, root without supplementary groups, umask 022.
    pub fn container_defaults() -> Self {
        let limit =
            |name: &str, soft: u64, hard: u64| Rlimit { name: name.into(), soft, hard, best_effort: true };
        Self {
            capabilities: Some(Capabilities::uniform(CapSet::DEFAULT)),
            no_new_privs: true,
            seccomp: Seccomp::Default,
            rlimits: vec![limit("nofile", 1024, 524_288), limit("core", 0, 0)],
            user: Some(User { umask: Some(0o022), ..User::default() }),
            ..Self::default()
        }
    }
}
