//! eBPF programs that decide which devices a v2 cgroup's processes may use. Source: bpf(2), and the kernel's
//! include/uapi/linux/bpf.h for BPF_PROG_TYPE_CGROUP_DEVICE.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    registers: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

impl Instruction {
    /// An instruction with its destination and source registers (0 to 10).
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        // Bit fields: on little endian the destination is the low half. Big-endian machines are not supported.
        Self { code, registers: (dst & 15) | (src << 4), off, imm }
    }

    /// The destination register.
    pub const fn dst(self) -> u8 {
        self.registers & 15
    }

    /// The source register.
    pub const fn src(self) -> u8 {
        self.registers >> 4
    }
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// A program of BPF_PROG_TYPE_CGROUP_DEVICE, checked and loaded by the kernel.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN) in the initial user namespace, or, before Linux 5.11, when
/// RLIMIT_MEMLOCK is used up; EINVAL or EACCES for a program that the kernel's verifier refuses.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let count = u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let license = c"Dual MIT/GPL";
    let mut attr = Load {
        kind: TYPE_CGROUP_DEVICE,
        count,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"drydock_devices\0",
    };
    // SAFETY: the instructions and the license live until after the call, and the kernel only reads them.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

impl Attach {
    fn new(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Self {
        Self {
            target: number(cgroup),
            program: number(program),
            kind: ATTACH_CGROUP_DEVICE,
            ..Self::default()
        }
    }
}

/// Attaches a device program to a cgroup, beside those that are there, or in the place of one of them (Linux 5.6).
///
/// # Errors
/// bpf(2)'s; EPERM when a program that allows no others is attached above.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attach = Attach {
        flags: F_ALLOW_MULTI | if replace.is_some() { F_REPLACE } else { 0 },
        replace: replace.map_or(0, number),
        ..Attach::new(cgroup, program)
    };
    // SAFETY: the attribute has no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// Takes a device program off a cgroup.
///
/// # Errors
/// bpf(2)'s; ENOENT if it is not attached.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the attribute has no pointers.
    unsafe { bpf(PROG_DETACH, &mut Attach::new(cgroup, program)) }.map(drop)
}

/// The device programs that are attached to this cgroup itself, by id.
///
/// # Errors
/// bpf(2)'s; EINVAL on kernels without cgroup programs.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // The kernel attaches at most 64 to one cgroup (BPF_CGROUP_MAX_PROGS).
    const MOST: u32 = 64;
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    let mut ids = vec![0u32; MOST as usize];
    let mut query = Query {
        target: number(cgroup),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST,
        padding: 0,
    };
    // SAFETY: the kernel writes at most `count` ids where `ids` points, and the count into the attribute.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    ids.truncate(query.count as usize);
    Ok(ids)
}

/// A loaded program by its id.
///
/// # Errors
/// ENOENT if it has gone; EPERM without CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    // SAFETY: the attribute has no pointers.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut ById { id, next: 0, flags: 0 }) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor is never negative.
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

/// bpf(2).
///
/// # Safety
/// `attr` is the command's attribute, and the kernel may read, or write, where it points for as long as the call takes.
// SAFETY: each caller says why that holds for its command.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the size is the attribute's own.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    match i32::try_from(rc) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
