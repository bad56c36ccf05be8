//! From rules to a BPF program: a check of the architecture, then a balanced binary search over the numbers.

use super::action::{RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG, RET_TRACE};
use super::bpf::{
    ARCH, IF_EQ, IF_GE, Instruction, JUMP, LOAD, MAX_INSTRUCTIONS, NUMBER, RETURN, branch, plain,
};
use super::condition;
use super::names::{Arch, X32_BIT};
use super::profile::Profile;
use super::select::{Case, Selected, Table, select};
use drydock_core::sys::seccomp::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV};
use drydock_core::{Error, Result, text};
use nix::libc::ENOSYS;

pub use super::select::Target;

/// A program that is ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The instructions.
    pub program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u32,
    /// Whether a notify descriptor is made and must be listened to.
    pub notify: bool,
    /// Names in rules that refuse and that no architecture has: probably misspelt, and without effect.
    pub unknown: Vec<String>,
    /// In words, for `--explain`.
    pub summary: String,
}

/// ENOSYS, as a filter answers it: to what is newer than this program, so that programs fall back, and to x32.
const RET_ENOSYS: u32 = RET_ERRNO | ENOSYS as u32;

/// Compiles a profile for a target.
///
/// The native architecture is always filtered; others only where the profile names them, and a call of any other kills
/// the process. x32's calls answer ENOSYS unless the profile names x32. Where the default refuses, numbers above every
/// one that the profile names answer ENOSYS instead: who wrote it did not know them, and programs fall back (as runc).
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the rule that is wrong, or when the program is longer than the kernel takes.
pub fn compile(profile: &Profile, target: &Target) -> Result<Filter> {
    let selected = select(profile, target)?;
    let program = assemble(&selected)?;
    if program.len() > MAX_INSTRUCTIONS {
        let problem = format!("{} instructions (allowed: at most {MAX_INSTRUCTIONS})", program.len());
        return Err(Error::bad_input("seccomp profile", problem).hint("use fewer rules with arguments"));
    }
    let calls = selected.arches.first().map_or(0, |(_, table)| table.len());
    let summary = format!("{} instructions, rules for {calls} calls", program.len());
    let flags = flags(profile)?;
    if flags & FLAG_WAIT_KILLABLE_RECV != 0 && !selected.notify {
        return Err(Error::bad_input("seccomp flag", "WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY"));
    }
    Ok(Filter { program, flags, notify: selected.notify, unknown: selected.unknown, summary })
}

/// Flags of seccomp(2) that a profile may have.
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    // For all threads of the process: it has one, and with a listener the kernel would refuse it.
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

/// The names of the flags that a profile may have.
pub fn known_flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(name, _)| *name)
}

fn flags(profile: &Profile) -> Result<u32> {
    profile.flags.iter().flatten().try_fold(0, |flags, name| Ok(flags | flag(name)?))
}

/// A flag by its name, with or without the kernel's prefix.
pub(super) fn flag(name: &str) -> Result<u32> {
    let same = |known: &str| known == name || known.strip_prefix("SECCOMP_FILTER_FLAG_") == Some(name);
    FLAGS.iter().find(|(known, _)| same(known)).map(|(_, flag)| *flag).ok_or_else(|| {
        let shown = text::shorten(&text::escape(name), 60);
        let known: Vec<&str> = known_flags().collect();
        Error::bad_input("seccomp flag", format!("'{shown}' is not one (allowed: {})", known.join(", ")))
    })
}

fn assemble(selected: &Selected<'_>) -> Result<Vec<Instruction>> {
    let mut program = vec![plain(LOAD, ARCH)];
    let mut audits: Vec<u32> = selected.arches.iter().map(|(arch, _)| arch.audit()).collect();
    audits.dedup();
    for audit in audits {
        let all = selected.arches.iter().zip(&selected.newest);
        let tables: Vec<_> = all.filter(|((a, _), _)| a.audit() == audit).collect();
        let mut body = vec![plain(LOAD, NUMBER)];
        body.extend(search(&ranges(&tables, selected.default_code)?));
        // The body may be longer than a conditional jump reaches: skip it by a long one.
        program.push(branch(IF_EQ, audit, 1, 0));
        program.push(plain(JUMP, length(&body)));
        program.extend(body);
    }
    program.push(plain(RETURN, RET_KILL_PROCESS));
    Ok(program)
}

/// From `start` up to the next range's start, the same code answers.
struct Range {
    start: u32,
    code: Vec<Instruction>,
}

/// The numbers of one audit architecture, cut into ranges that cover all 32 bits.
fn ranges(tables: &[(&(Arch, Table<'_>), &u32)], default_code: u32) -> Result<Vec<Range>> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |start: u32, code: Vec<Instruction>| push(&mut ranges, Range { start, code });
    let answer = |code: u32| vec![plain(RETURN, code)];
    let newer = if refuses(default_code) { RET_ENOSYS } else { default_code };
    let has_x32 = tables.iter().any(|((arch, _), _)| *arch == Arch::X32);
    for ((arch, table), newest) in tables {
        push(if *arch == Arch::X32 { X32_BIT } else { 0 }, answer(default_code));
        for (number, cases) in table {
            push(*number, body(cases, *arch, default_code)?);
            // u32::MAX is no call's number.
            push(number.saturating_add(1), answer(default_code));
        }
        let last = table.keys().last().copied().unwrap_or(0);
        if let Some(after) = (*newest).max(&last).checked_add(1) {
            push(after, answer(newer));
        }
        if matches!(arch, Arch::X86_64) && !has_x32 {
            push(X32_BIT, answer(RET_ENOSYS));
        }
    }
    Ok(ranges)
}

/// Adds a range behind the others; one with the same code as its neighbour melts into it.
fn push(ranges: &mut Vec<Range>, range: Range) {
    if ranges.last().is_some_and(|last| last.start == range.start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.code != range.code) {
        ranges.push(range);
    }
}

/// Neither allows nor leaves it to a tracer, who may know newer calls.
fn refuses(code: u32) -> bool {
    !matches!(code & 0xffff_0000, RET_ALLOW | RET_LOG | RET_TRACE)
}

/// The cases of one call: the first whose conditions all hold decides, else the default.
fn body(cases: &[Case<'_>], arch: Arch, default_code: u32) -> Result<Vec<Instruction>> {
    let mut program = Vec::new();
    for case in cases {
        if case.args.is_empty() {
            program.push(plain(RETURN, case.code));
            return Ok(program);
        }
        let low = arch.is_32_bit();
        let mut rest: usize = case.args.iter().map(|arg| condition::length(arg, low)).sum::<usize>() + 1;
        for arg in case.args {
            rest -= condition::length(arg, low);
            condition::emit(arg, low, rest, &mut program).ok_or_else(|| {
                let problem = format!("{} conditions in one rule (allowed: about 50)", case.args.len());
                Error::bad_input("seccomp rule", problem)
            })?;
        }
        program.push(plain(RETURN, case.code));
    }
    program.push(plain(RETURN, default_code));
    Ok(program)
}

/// A balanced tree of comparisons with the range's code at each leaf.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some(middle) = right.first().filter(|_| !left.is_empty()) else {
        return ranges.first().map(|r| r.code.clone()).unwrap_or_default();
    };
    let (below, above) = (search(left), search(right));
    let mut program = Vec::with_capacity(below.len() + above.len() + 2);
    match u8::try_from(below.len()) {
        Ok(near) => program.push(branch(IF_GE, middle.start, near, 0)),
        Err(_) => program.extend([branch(IF_GE, middle.start, 0, 1), plain(JUMP, length(&below))]),
    }
    program.extend(below);
    program.extend(above);
    program
}

fn length(program: &[Instruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}
