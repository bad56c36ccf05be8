//! Classic BPF instructions as seccomp uses them. Source: linux/filter.h, linux/bpf_common.h.

pub use drydock_core::sys::seccomp::Instruction;

/// The kernel's limit of one program (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Offset of the call's number in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
/// Offset of the architecture.
pub const ARCH: u32 = 4;

/// Load the 32-bit word at an offset.
pub const LOAD: u16 = 0x20;
/// And with the operand.
pub const AND: u16 = 0x54;
/// Jump always, by the operand.
pub const JUMP: u16 = 0x05;
/// Jump if equal.
pub const IF_EQ: u16 = 0x15;
/// Jump if greater (unsigned).
pub const IF_GT: u16 = 0x25;
/// Jump if greater or equal (unsigned).
pub const IF_GE: u16 = 0x35;
/// End with the operand.
pub const RETURN: u16 = 0x06;

/// An instruction without jump.
pub const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// A conditional jump: how many instructions are skipped if true, and if false.
pub const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Offset of the low word of argument `index` (little-endian, as x86 and aarch64 are).
pub const fn arg_low(index: u32) -> u32 {
    16 + 8 * index
}

/// Offset of the high word.
pub const fn arg_high(index: u32) -> u32 {
    20 + 8 * index
}
