//! Requests of ptrace(2) that nix does not offer on all targets.

use std::io;

const PTRACE_LISTEN: libc::c_uint = 0x4208;
const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;

/// Leaves a thread in the stop of its group that SIGSTOP and its like have made.
///
/// # Errors
/// ESRCH, EIO.
pub fn listen(tid: i32) -> io::Result<()> {
    // SAFETY: the request takes no pointers.
    let rc = unsafe { libc::ptrace(PTRACE_LISTEN as _, tid, 0usize, 0usize) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The architecture (AUDIT_ARCH_*) and the number of the call that a thread is about to make; `None` at its end. Linux 5.3.
///
/// # Errors
/// ESRCH; EIO on older kernels.
pub fn syscall_entry(tid: i32) -> io::Result<Option<(u32, u64)>> {
    // op, pad, arch (at 4), instruction and stack pointer, number (at 24), arguments.
    let mut info = [0u64; 11];
    let size = std::mem::size_of_val(&info);
    // SAFETY: the kernel writes at most `size` bytes to the array, which is that long.
    let rc = unsafe { libc::ptrace(PTRACE_GET_SYSCALL_INFO as _, tid, size, info.as_mut_ptr()) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let first = info[0].to_ne_bytes();
    let arch = u32::from_ne_bytes([first[4], first[5], first[6], first[7]]);
    Ok((first[0] == PTRACE_SYSCALL_INFO_ENTRY).then_some((arch, info[3])))
}
