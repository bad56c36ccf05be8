//! How a process ended, asked of a pidfd by one who is not its parent. Source: linux/pidfd.h, PIDFD_GET_INFO.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct pidfd_info`, as of PIDFD_INFO_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// _IOWR(0xFF, 11, struct pidfd_info).
const PIDFD_GET_INFO: u64 = 0xC040_FF0B;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// The wait status, as waitpid(2) gives it, of a process that has ended and been waited for; `None` before.
///
/// # Errors
/// ENOTTY, EINVAL before Linux 6.13; ESRCH for one that has been waited for, before Linux 6.15.
pub fn wait_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    let request = PIDFD_GET_INFO as libc::Ioctl;
    // SAFETY: the request's size is that of the struct, which the kernel reads and fills.
    let rc = unsafe { libc::ioctl(pidfd.as_raw_fd(), request, &raw mut info) };
    match rc {
        0.. => Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_size_is_the_requests() {
        assert_eq!(size_of::<super::Info>() as u64, (super::PIDFD_GET_INFO >> 16) & 0x3fff);
    }
}
