//! What a filter answers to a call, without installing it. Source: the kernel's Documentation/networking/filter.rst (classic
//! BPF), struct seccomp_data in seccomp(2).

use super::action::{RET_ALLOW, RET_LOG};
use super::bpf::{
    AND, ARCH, IF_EQ, IF_GE, IF_GT, Instruction, JUMP, LOAD, NUMBER, RETURN, arg_high, arg_low,
};
use super::compile::Filter;
use super::names::Arch;

/// A system call by its name, with its arguments; pointers are 0.
pub type Call = (&'static str, [u64; 6]);

/// The action without its data (SECCOMP_RET_ACTION_FULL).
const ACTION: u32 = 0xffff_0000;

/// The program's answer; `None` for a program that is not of the compiler's making.
pub(crate) fn answer(program: &[Instruction], audit: u32, number: u32, args: [u64; 6]) -> Option<u32> {
    let load = |offset: u32| match offset {
        NUMBER => Some(number),
        ARCH => Some(audit),
        // The instruction pointer, which no profile can name.
        8 | 12 => Some(0),
        _ => (0u32..).zip(args).find_map(|(index, arg)| {
            let half = match offset {
                low if low == arg_low(index) => arg & u64::from(u32::MAX),
                high if high == arg_high(index) => arg >> 32,
                _ => return None,
            };
            u32::try_from(half).ok()
        }),
    };
    let (mut at, mut accumulator) = (0usize, 0u32);
    // The kernel takes no jumps back: an end comes before this many.
    for _ in 0..=program.len() {
        let i = program.get(at)?;
        let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
        at += 1;
        match i.code {
            LOAD => accumulator = load(i.k)?,
            AND => accumulator &= i.k,
            JUMP => at = at.checked_add(usize::try_from(i.k).ok()?)?,
            IF_EQ => at += jump(accumulator == i.k),
            IF_GT => at += jump(accumulator > i.k),
            IF_GE => at += jump(accumulator >= i.k),
            RETURN => return Some(i.k),
            _ => return None,
        }
    }
    None
}

impl Filter {
    /// Whether all of these calls go through, without anybody being asked.
    pub fn permits(&self, calls: &[Call]) -> bool {
        let permitted = |(name, args): &Call| {
            // A call that this architecture does not have is not made here.
            let Some(number) = Arch::NATIVE.number(name) else { return true };
            answer(&self.program, Arch::NATIVE.audit(), number, *args)
                .is_some_and(|answer| matches!(answer & ACTION, RET_ALLOW | RET_LOG))
        };
        calls.iter().all(permitted)
    }
}
