//! Memory policy. Source: set_mempolicy(2).

use std::io;

/// Sets the calling thread's memory policy: a mode with its flags, and the nodes' bits.
///
/// # Errors
/// set_mempolicy(2)'s: EINVAL for a node or mode that the machine lacks, ENOSYS without CONFIG_NUMA.
pub fn set_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told (get_nodes() in mm/mempolicy.c).
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask is null, or valid for the call with as many bits as are told (a last one is not read).
    let rc = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
