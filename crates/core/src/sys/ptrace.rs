//! A process's system call filters, read from outside. Source: ptrace(2).

use super::seccomp::Instruction;
use std::io;

// The request has another type in each C library.
const PTRACE_SECCOMP_GET_FILTER: u16 = 0x420c;

/// The filter number `index` of a process that the caller traces and that stands still; 0 is the newest. Needs CAP_SYS_ADMIN
/// in the initial user namespace, no filter of the caller's own, and a kernel with CONFIG_CHECKPOINT_RESTORE.
///
/// # Errors
/// ENOENT when there are not so many; EACCES without that privilege; EMEDIUMTYPE for one that is no classic program.
pub fn seccomp_filter(pid: i32, index: usize) -> io::Result<Vec<Instruction>> {
    let read = |buffer: *mut Instruction| {
        // SAFETY: with a null pointer the kernel answers the number of instructions; else it writes so many, and the caller
        // below has made room for them. A filter never changes.
        unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER.into(), pid, index, buffer) }
    };
    let length = read(std::ptr::null_mut());
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut program = vec![Instruction { code: 0, jt: 0, jf: 0, k: 0 }; length];
    let again = usize::try_from(read(program.as_mut_ptr())).map_err(|_| io::Error::last_os_error())?;
    if again == length { Ok(program) } else { Err(io::Error::from_raw_os_error(libc::EAGAIN)) }
}
