//! Counters of the processor and the kernel. Source: perf_event_open(2).

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// PERF_TYPE_HARDWARE.
pub const HARDWARE: u32 = 0;
/// PERF_TYPE_SOFTWARE.
pub const SOFTWARE: u32 = 1;

const FORMAT_TOTAL_TIME: u64 = 1 | 2;
const FLAG_PID_CGROUP: libc::c_ulong = 1 << 2;
const FLAG_CLOEXEC: libc::c_ulong = 1 << 3;
/// attr.inherit: children count, too.
const INHERIT: u64 = 1 << 1;
/// struct perf_event_attr as of PERF_ATTR_SIZE_VER1: later fields are zero for us.
const ATTR_SIZE: usize = 72;

/// What is counted, of whom.
#[derive(Clone, Copy, Debug)]
pub enum Whom<'a> {
    /// A cgroup (v2, or v1's perf_event hierarchy), on one processor.
    Cgroup(BorrowedFd<'a>, i32),
    /// A thread and the children that it will have, on any processor.
    Thread(i32),
}

/// A counter that runs. Reading gives three numbers of 64 bits: the count, and the nanoseconds that it was enabled and
/// running.
///
/// # Errors
/// EACCES, EPERM: kernel.perf_event_paranoid; ENOENT, EOPNOTSUPP: the processor has no such counter; ENOSYS.
pub fn counter(kind: u32, config: u64, whom: Whom<'_>) -> io::Result<OwnedFd> {
    let mut attr = [0u64; ATTR_SIZE / 8];
    // type and size, config, (period, sample_type), read_format, flags.
    attr[0] = u64::from(kind) | ((ATTR_SIZE as u64) << 32);
    attr[1] = config;
    attr[4] = FORMAT_TOTAL_TIME;
    let (pid, cpu, flags): (RawFd, i32, libc::c_ulong) = match whom {
        Whom::Cgroup(fd, cpu) => (std::os::fd::AsRawFd::as_raw_fd(&fd), cpu, FLAG_PID_CGROUP | FLAG_CLOEXEC),
        Whom::Thread(tid) => {
            attr[5] = INHERIT;
            (tid, -1, FLAG_CLOEXEC)
        }
    };
    if cfg!(target_endian = "big") {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: the kernel reads ATTR_SIZE bytes of the array, which is that long; the rest are numbers.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), pid, cpu, -1, flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel just made it for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
