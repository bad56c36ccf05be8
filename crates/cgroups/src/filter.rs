//! A device list as a program of the kernel's eBPF machine, which v2 asks for each open(2) and mknod(2) of a device.
//! Source: the kernel's admin-guide/cgroup-v2 (device controller), bpf/standardization/instruction-set.

use crate::rules::{DeviceRule, DeviceType, READ, WRITE};
use drydock_core::sys::bpf::Instruction;

// Operation codes: class, size or source, operation.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const EXIT: u8 = 0x95;
/// On the low 32 bits: device numbers are unsigned, and a 64-bit comparison would extend the operand's sign.
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;

// Registers: r0 is the answer, r1 the context at the start.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The kinds of access that no rule has decided yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const DENIED: u8 = 6;

/// The kernel's numbers (BPF_DEVCG_DEV_*).
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// The program that allows what the rules allow, applied in order to a list that denies everything: for each kind of
/// access the last rule that fits decides. It looks from the last rule to the first and stops at the first answer.
pub fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let (default, rules) = effective(rules);
    let op = Instruction::new;
    // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor.
    let mut code = vec![
        op(LOAD_WORD, KIND, CONTEXT, 0, 0),
        op(MOVE_REGISTER, OPEN, KIND, 0, 0),
        op(SHIFT_RIGHT, OPEN, 0, 0, 16),
        op(AND, KIND, 0, 0, 0xffff),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        append(rule, &mut code);
    }
    code.extend([op(MOVE, ANSWER, 0, 0, i32::from(default)), op(EXIT, 0, 0, 0, 0)]);
    code
}

/// What holds when no rule fits, and the rules that count: a rule for all devices makes those before it void.
fn effective(rules: &[DeviceRule]) -> (bool, &[DeviceRule]) {
    match rules.iter().rposition(|r| r.kind == DeviceType::All) {
        Some(last) => (rules.get(last).is_some_and(|r| r.allow), rules.get(last + 1..).unwrap_or_default()),
        None => (false, rules),
    }
}

fn append(rule: &DeviceRule, code: &mut Vec<Instruction>) {
    let op = Instruction::new;
    let bits = bits(rule);
    let decide = if rule.allow {
        vec![
            op(AND, OPEN, 0, 0, !bits),
            op(JUMP_UNEQUAL, OPEN, 0, 2, 0),
            op(MOVE, ANSWER, 0, 0, 1),
            op(EXIT, 0, 0, 0, 0),
        ]
    } else {
        vec![
            op(MOVE_REGISTER, DENIED, OPEN, 0, 0),
            op(AND, DENIED, 0, 0, bits),
            op(JUMP_EQUAL, DENIED, 0, 2, 0),
            op(MOVE, ANSWER, 0, 0, 0),
            op(EXIT, 0, 0, 0, 0),
        ]
    };
    let kind = if rule.kind == DeviceType::Block { BLOCK } else { CHAR };
    let tests = [Some((KIND, kind)), number(MAJOR, rule.major), number(MINOR, rule.minor)];
    let tests: Vec<(u8, i32)> = tests.into_iter().flatten().collect();
    for (i, (register, value)) in tests.iter().enumerate() {
        // Over the tests that follow and the decision: a handful, whatever the rule.
        let over = tests.len() - i - 1 + decide.len();
        code.push(op(JUMP_UNEQUAL, *register, 0, i16::try_from(over).unwrap_or(i16::MAX), *value));
    }
    code.extend(decide);
}

fn number(register: u8, value: Option<u32>) -> Option<(u8, i32)> {
    value.map(|v| (register, v.cast_signed()))
}

/// The kernel's bits (BPF_DEVCG_ACC_*): 1 mknod, 2 read, 4 write.
fn bits(rule: &DeviceRule) -> i32 {
    let access = rule.bits();
    let bit = |ours: u8, theirs: i32| if access & ours != 0 { theirs } else { 0 };
    bit(crate::rules::MKNOD, 1) | bit(READ, 2) | bit(WRITE, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's machine would answer; nothing but the operations that we use.
    fn run(code: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u64; 11];
        let mut at = 0usize;
        // Jumps go forward only, so this ends.
        while let Some(i) = code.get(at) {
            let (dst, src) = (usize::from(i.dst()), usize::from(i.src()));
            at += 1;
            let mut jump = |yes: bool| {
                if yes {
                    at += usize::try_from(i.off).unwrap();
                }
            };
            match i.code {
                LOAD_WORD => r[dst] = u64::from(context[usize::try_from(i.off).unwrap() / 4]),
                MOVE => r[dst] = i64::from(i.imm) as u64,
                MOVE_REGISTER => r[dst] = r[src],
                SHIFT_RIGHT => r[dst] >>= i.imm,
                AND => r[dst] &= i64::from(i.imm) as u64,
                JUMP_EQUAL => jump(r[dst] as u32 == i.imm as u32),
                JUMP_UNEQUAL => jump(r[dst] as u32 != i.imm as u32),
                EXIT => return r[0],
                other => panic!("operation {other:#x}"),
            }
        }
        panic!("no end");
    }

    fn rule(text: &str) -> DeviceRule {
        let (allow, text) = text.split_at(1);
        DeviceRule::parse(allow == "+", text).unwrap()
    }

    /// `c 1:3 rw` asked of a list of rules.
    fn allows(rules: &[&str], ask: &str) -> bool {
        let rules: Vec<DeviceRule> = rules.iter().map(|r| rule(r)).collect();
        let ask = rule(&format!("+{ask}"));
        let kind = if ask.kind == DeviceType::Block { 1 } else { 2 };
        let code = program(&rules);
        match run(&code, kind, bits(&ask) as u32, ask.major.unwrap(), ask.minor.unwrap()) {
            0 => false,
            1 => true,
            other => panic!("answer {other}"),
        }
    }

    #[test]
    fn nothing_is_allowed_unless_a_rule_says_so() {
        assert!(!allows(&[], "c 1:3 r"));
        assert!(allows(&["+c 1:3 rwm"], "c 1:3 rw"));
        assert!(!allows(&["+c 1:3 r"], "c 1:3 rw"), "each kind of access must be allowed");
        assert!(!allows(&["+c 1:3 rwm"], "b 1:3 r") && !allows(&["+c 1:3 rwm"], "c 1:5 r"));
        assert!(allows(&["+c *:* m"], "c 9:9 m") && !allows(&["+c *:* m"], "c 9:9 rm"));
        assert!(allows(&["+c 136:* rwm"], "c 136:4294967295 rw"));
        assert!(allows(&["+b 4294967295:0 r"], "b 4294967295:0 r"));
        assert!(allows(&["+c 1:3 r", "+c *:3 w"], "c 1:3 rw"), "by two rules");
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        assert!(!allows(&["+c *:* rwm", "-c 1:3 w"], "c 1:3 rw"));
        assert!(allows(&["+c *:* rwm", "-c 1:3 w"], "c 1:3 r"));
        assert!(allows(&["-c 1:3 w", "+c *:* rwm"], "c 1:3 rw"));
        assert!(allows(&["+a", "-b 8:0 rwm"], "c 5:5 rwm") && !allows(&["+a", "-b 8:0 rwm"], "b 8:0 r"));
        assert!(allows(&["+c 1:3 rwm", "-a", "+c 1:5 r"], "c 1:5 r"));
        assert!(!allows(&["+c 1:3 rwm", "-a", "+c 1:5 r"], "c 1:3 r"));
    }

    #[test]
    fn the_default_list() {
        let code = program(&DeviceRule::container_defaults());
        let null = |access| run(&code, 2, access, 1, 3);
        assert_eq!((null(1), null(2), null(6), null(7)), (1, 1, 1, 1));
        assert_eq!(run(&code, 1, 1, 8, 0), 1, "a block device may be made");
        assert_eq!(run(&code, 1, 2, 8, 0), 0, "but not read");
        assert_eq!(run(&code, 2, 6, 1, 1), 0, "/dev/mem");
    }
}
