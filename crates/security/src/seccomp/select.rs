//! From a profile's words to the rules of one architecture.

use super::action::Action;
use super::multiplex::multiplexed;
use super::names::{Arch, is_known};
use super::profile::{Arg, Profile, Rule, Selector};
use crate::capset::CapSet;
use drydock_core::{Error, Result, text};
use std::collections::BTreeMap;

/// What a profile's conditions are about.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The architecture that the kernel runs natively.
    pub native: Arch,
    /// The container's bounding set.
    pub bounding: CapSet,
    /// The kernel's release: major and minor.
    pub kernel: (u32, u32),
}

/// A return value under conditions, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case<'a> {
    /// The conditions.
    pub args: &'a [Arg],
    /// The filter's return value.
    pub code: u32,
}

/// The rules of one architecture: for each number its cases in the profile's order.
pub type Table<'a> = BTreeMap<u32, Vec<Case<'a>>>;

/// Everything that the profile says for a target.
#[derive(Debug)]
pub struct Selected<'a> {
    /// Return value when nothing matches.
    pub default_code: u32,
    /// Architectures and their rules, the native one first.
    pub arches: Vec<(Arch, Table<'a>)>,
    /// Names that no architecture we know has, once each, of rules that refuse: those would be without effect. An
    /// allowed name that we do not know stays refused, and profiles allow names of many architectures.
    pub unknown: Vec<String>,
    /// Whether any rule asks the notify descriptor.
    pub notify: bool,
    /// The last call that any rule names, by architecture: a greater number is newer than the profile.
    pub newest: Vec<u32>,
}

/// Chooses the rules that apply to the target, and resolves names.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for what cannot be meant: an errno on an action without one, an argument index
/// above 5, a selector's capability or release that does not exist, a rule without calls.
pub fn select<'a>(profile: &'a Profile, target: &Target) -> Result<Selected<'a>> {
    let errno =
        errno_of(profile.default_errno_ret, profile.default_errno.as_deref(), profile.default_action)?;
    let mut selected = Selected {
        default_code: profile.default_action.code(errno),
        arches: arches(profile, target.native)?.into_iter().map(|a| (a, Table::new())).collect(),
        unknown: Vec::new(),
        notify: profile.default_action == Action::Notify,
        newest: Vec::new(),
    };
    let all: Vec<&str> = profile.syscalls.iter().flatten().flat_map(Rule::calls).collect();
    let newest = |(arch, _): &(Arch, Table<'_>)| all.iter().filter_map(|name| arch.number(name)).max();
    selected.newest = selected.arches.iter().map(|a| newest(a).unwrap_or(u32::MAX)).collect();
    for (index, rule) in profile.syscalls.iter().flatten().enumerate() {
        add(&mut selected, rule, target)
            .map_err(|e| Error::bad_input(format!("seccomp rule {index}"), e.sentence()))?;
    }
    profile.syscalls.iter().flatten().for_each(|rule| allow_multiplexed(&mut selected, rule, target));
    Ok(selected)
}

/// What a rule allows is allowed through socketcall(2) and ipc(2) too, where no rule says something about those.
fn allow_multiplexed<'a>(selected: &mut Selected<'a>, rule: &'a Rule, target: &Target) {
    let allows = matches!(rule.action, Action::Allow | Action::Log);
    let conditional = rule.args.as_ref().is_some_and(|args| !args.is_empty());
    if !allows || conditional || !applies(rule, target).unwrap_or(false) {
        return;
    }
    for (arch, table) in &mut selected.arches {
        for (number, args) in rule.calls().filter_map(|name| multiplexed(*arch, name)) {
            table.entry(number).or_default().push(Case { args, code: rule.action.code(0) });
        }
    }
}

fn applies(rule: &Rule, target: &Target) -> Result<bool> {
    let included = holds(rule.includes.as_ref(), target, Mode::Includes)?;
    let excluded = holds(rule.excludes.as_ref(), target, Mode::Excludes)?;
    Ok(included && !excluded)
}

fn add<'a>(selected: &mut Selected<'a>, rule: &'a Rule, target: &Target) -> Result<()> {
    let args = rule.args.as_deref().unwrap_or_default();
    if let Some(arg) = args.iter().find(|a| a.index > 5) {
        return Err(Error::bad_input("args", format!("index {} (allowed: 0 to 5)", arg.index)));
    }
    let code = rule.action.code(errno_of(rule.errno_ret, rule.errno.as_deref(), rule.action)?);
    if rule.calls().next().is_none() {
        return Err(Error::bad_input("names", "no call (allowed: at least one)"));
    }
    // Checked also for a rule that does not apply here: a profile is right or wrong everywhere.
    if !applies(rule, target)? {
        return Ok(());
    }
    selected.notify |= rule.action == Action::Notify;
    let refuses = !matches!(rule.action, Action::Allow | Action::Log);
    for name in rule.calls() {
        if refuses && !is_known(name) && !selected.unknown.iter().any(|u| u == name) {
            selected.unknown.push(name.to_string());
        }
        for (arch, table) in &mut selected.arches {
            if let Some(number) = arch.number(name) {
                table.entry(number).or_default().push(Case { args, code });
            }
            // The same call through socketcall(2) or ipc(2), whose own arguments lie in memory: with conditions it is
            // refused whole, and never allowed.
            if let Some((number, args)) = multiplexed(*arch, name).filter(|_| refuses) {
                table.entry(number).or_default().push(Case { args, code });
            }
        }
    }
    Ok(())
}

/// Native first, then what the profile adds and this kernel can run.
fn arches(profile: &Profile, native: Arch) -> Result<Vec<Arch>> {
    let mut wanted = vec![native];
    let mut add = |name: &str| -> Result<()> {
        let runs = |arch: &Arch| native.sub_architectures().contains(arch);
        if let Some(arch) = Arch::parse(name)?.filter(runs).filter(|arch| !wanted.contains(arch)) {
            wanted.push(arch);
        }
        Ok(())
    };
    profile.architectures.iter().flatten().try_for_each(|name| add(name))?;
    for map in profile.arch_map.iter().flatten() {
        let ours = Arch::parse(&map.architecture)? == Some(native);
        let subs = map.sub_architectures.iter().flatten();
        subs.filter(|_| ours).try_for_each(|name| add(name))?;
    }
    Ok(wanted)
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Includes,
    Excludes,
}

/// Docker's meaning: `includes` needs every capability and one of the architectures; `excludes` any of them.
fn holds(selector: Option<&Selector>, target: &Target, mode: Mode) -> Result<bool> {
    let mut parts: Vec<bool> = Vec::new();
    if let Some(selector) = selector {
        for cap in selector.caps.iter().flatten() {
            parts.push(target.bounding.contains(CapSet::parse(cap)?));
        }
        if let Some(arches) = selector.arches.as_ref().filter(|a| !a.is_empty()) {
            parts.push(arches.iter().any(|a| a == target.native.docker_name()));
        }
        if let Some(release) = selector.min_kernel.as_ref().filter(|r| !r.is_empty()) {
            parts.push(target.kernel >= parse_release(release)?);
        }
    }
    Ok(match mode {
        Mode::Includes => parts.iter().all(|p| *p),
        Mode::Excludes => parts.iter().any(|p| *p),
    })
}

/// `4.8` or `6.18.44-amd64`: major and minor.
pub fn parse_release(release: &str) -> Result<(u32, u32)> {
    let number = |part: Option<&str>| {
        let digits = part.map(|p| p.chars().take_while(char::is_ascii_digit).collect::<String>());
        digits.and_then(|d| d.parse::<u32>().ok())
    };
    let mut parts = release.split('.');
    match (number(parts.next()), number(parts.next())) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => {
            let shown = text::shorten(&text::escape(release), 40);
            Err(Error::bad_input(
                "minKernel",
                format!("'{shown}' is not a kernel release (allowed: MAJOR.MINOR)"),
            ))
        }
    }
}

/// The errno of an action, EPERM where none is given. The kernel takes at most 4095 for SCMP_ACT_ERRNO.
pub(super) fn errno_of(number: Option<u32>, name: Option<&str>, action: Action) -> Result<u16> {
    let name = name.filter(|n| !n.is_empty());
    if !action.takes_errno() {
        return match (number.filter(|n| *n != 0), name) {
            (None, None) => Ok(0),
            _ => Err(Error::bad_input(
                "errnoRet",
                "given for an action without one (allowed: SCMP_ACT_ERRNO, SCMP_ACT_TRACE)",
            )),
        };
    }
    let limit = if action == Action::Errno { 4095 } else { u32::from(u16::MAX) };
    let named = name.map(errno_by_name).transpose()?;
    match (named, number) {
        (Some(named), Some(number)) if named != number => Err(Error::bad_input(
            "errnoRet",
            format!("{number} is not {}", text::escape(name.unwrap_or_default())),
        )),
        (named, number) => {
            let value = named.or(number).unwrap_or(1);
            let short = u16::try_from(value).ok().filter(|_| value <= limit);
            short.ok_or_else(|| {
                Error::bad_input("errnoRet", format!("{value} is too great (allowed: 0 to {limit})"))
            })
        }
    }
}

fn errno_by_name(name: &str) -> Result<u32> {
    let found = (1..134).find(|n| format!("{:?}", nix::errno::Errno::from_raw(*n)) == name);
    let known = found.and_then(|n| u32::try_from(n).ok());
    known.ok_or_else(|| {
        let shown = text::shorten(&text::escape(name), 40);
        Error::bad_input(
            "errno",
            format!("'{shown}' is not an errno (allowed: names of errno(3) such as EPERM)"),
        )
    })
}
