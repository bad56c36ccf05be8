//! Scheduling policy and I/O priority. Source: sched_setattr(2), ioprio_set(2).

use std::io;

/// `struct sched_attr` without its size and utilization clamps, which stay 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
}

/// Sets the policy of process `pid`; 0: of the calling thread.
///
/// # Errors
/// sched_setattr(2)'s: EPERM without CAP_SYS_NICE, EINVAL for a policy that the kernel lacks, EBUSY when the deadline
/// cannot be promised.
pub fn set(pid: i32, attributes: Attributes) -> io::Result<()> {
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
        clamp: [u32; 2],
    }
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = attributes;
    let size = u32::try_from(size_of::<SchedAttr>()).unwrap_or(0);
    let raw = SchedAttr { size, policy, flags, nice, priority, runtime, deadline, period, clamp: [0; 2] };
    // SAFETY: the struct is valid for the call and says its own size; the kernel only reads it.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const raw, 0u32) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the calling thread's I/O priority: the class in the upper three bits, the level in the lower ones.
///
/// # Errors
/// ioprio_set(2)'s: EPERM for the real-time class without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(value: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only; 0 is the caller.
    let rc = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, libc::c_int::from(value)) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
