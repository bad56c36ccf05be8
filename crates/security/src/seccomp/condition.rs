//! One condition on a 64-bit argument as BPF, which compares 32 bits at a time.

use super::bpf::{AND, IF_EQ, IF_GE, IF_GT, Instruction, LOAD, arg_high, arg_low, branch, plain};
use super::profile::{Arg, Operator};

/// A step of a condition before its distances are known: where to go on true and on false.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next instruction.
    Next,
    /// The condition holds: behind its code.
    Holds,
    /// It does not: `fail`.
    Fails,
}

enum Part {
    Plain(Instruction),
    Branch(u16, u32, To, To),
}

/// Appends code that falls through if the condition holds, and otherwise jumps over the `rest` instructions that will
/// follow its own. `None` if that is farther than a conditional jump reaches (255). With `low_only` the upper half of
/// the argument is not looked at.
pub fn emit(arg: &Arg, low_only: bool, rest: usize, program: &mut Vec<Instruction>) -> Option<()> {
    let parts = parts(arg, low_only);
    let count = parts.len();
    for (at, part) in parts.into_iter().enumerate() {
        let left = count - at - 1;
        let distance = |to: To| match to {
            To::Next => Some(0),
            To::Holds => u8::try_from(left).ok(),
            To::Fails => u8::try_from(left + rest).ok(),
        };
        program.push(match part {
            Part::Plain(instruction) => instruction,
            Part::Branch(code, k, yes, no) => branch(code, k, distance(yes)?, distance(no)?),
        });
    }
    Some(())
}

/// How many instructions [`emit`] makes.
pub fn length(arg: &Arg, low_only: bool) -> usize {
    parts(arg, low_only).len()
}

/// One comparison of the low half.
fn low_parts(arg: &Arg) -> Vec<Part> {
    use Part::{Branch, Plain};
    use To::{Fails, Next};
    let load = Plain(plain(LOAD, arg_low(arg.index)));
    let (_, low) = halves(arg.value);
    let (_, wanted) = halves(arg.value & arg.value_two);
    match arg.op {
        Operator::MaskedEq if low == 0 => vec![],
        Operator::MaskedEq => vec![load, Plain(plain(AND, low)), Branch(IF_EQ, wanted, Next, Fails)],
        Operator::Eq => vec![load, Branch(IF_EQ, low, Next, Fails)],
        Operator::Ne => vec![load, Branch(IF_EQ, low, Fails, Next)],
        Operator::Gt => vec![load, Branch(IF_GT, low, Next, Fails)],
        Operator::Ge => vec![load, Branch(IF_GE, low, Next, Fails)],
        Operator::Lt => vec![load, Branch(IF_GE, low, Fails, Next)],
        Operator::Le => vec![load, Branch(IF_GT, low, Fails, Next)],
    }
}

fn parts(arg: &Arg, low_only: bool) -> Vec<Part> {
    if low_only {
        return low_parts(arg);
    }
    use Part::{Branch, Plain};
    use To::{Fails, Holds, Next};
    let load_high = || Plain(plain(LOAD, arg_high(arg.index)));
    let load_low = || Plain(plain(LOAD, arg_low(arg.index)));
    let (high, low) = halves(arg.value);
    match arg.op {
        Operator::Eq => {
            vec![load_high(), Branch(IF_EQ, high, Next, Fails), load_low(), Branch(IF_EQ, low, Next, Fails)]
        }
        Operator::Ne => {
            vec![load_high(), Branch(IF_EQ, high, Next, Holds), load_low(), Branch(IF_EQ, low, Fails, Next)]
        }
        Operator::Gt | Operator::Ge => vec![
            load_high(),
            Branch(IF_GT, high, Holds, Next),
            Branch(IF_EQ, high, Next, Fails),
            load_low(),
            Branch(if arg.op == Operator::Gt { IF_GT } else { IF_GE }, low, Next, Fails),
        ],
        Operator::Lt | Operator::Le => vec![
            load_high(),
            Branch(IF_GT, high, Fails, Next),
            Branch(IF_EQ, high, Next, Holds),
            load_low(),
            Branch(if arg.op == Operator::Lt { IF_GE } else { IF_GT }, low, Fails, Next),
        ],
        Operator::MaskedEq => {
            // What is masked away is not compared, in the value neither.
            let (want_high, want_low) = halves(arg.value & arg.value_two);
            let mut parts = Vec::with_capacity(6);
            if high != 0 {
                parts.extend([load_high(), Plain(plain(AND, high)), Branch(IF_EQ, want_high, Next, Fails)]);
            }
            if low != 0 {
                parts.extend([load_low(), Plain(plain(AND, low)), Branch(IF_EQ, want_low, Next, Fails)]);
            }
            parts
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    // The shift leaves 32 bits, and the mask too.
    ((value >> 32) as u32, (value & 0xffff_ffff) as u32)
}

/// What the code must answer, for tests and for explaining: the condition on a value.
pub fn holds(arg: &Arg, value: u64) -> bool {
    match arg.op {
        Operator::Eq => value == arg.value,
        Operator::Ne => value != arg.value,
        Operator::Gt => value > arg.value,
        Operator::Ge => value >= arg.value,
        Operator::Lt => value < arg.value,
        Operator::Le => value <= arg.value,
        Operator::MaskedEq => value & arg.value == arg.value_two & arg.value,
    }
}
