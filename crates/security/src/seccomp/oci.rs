//! OCI's `linux.seccomp` as a profile, with the meaning that it has for runc and crun (libseccomp's):
//!
//! - a rule that says the same as the default is no rule;
//! - a rule without conditions decides wherever it stands, and of several the first; libseccomp drops the others;
//! - no `flags` at all is SECCOMP_FILTER_FLAG_SPEC_ALLOW, an empty list is none.
//!
//! One difference is meant: several conditions on one argument must all hold, as the specification says. runc and crun
//! take each as a rule of its own, which opens what a range is to keep closed (CVE-2017-18367's class).

use super::action::Action;
use super::compile::flag;
use super::names::Arch;
use super::profile::{Arg, Operator, Profile, Rule};
use super::select::errno_of;
use drydock_core::{Error, Result, text};
use serde::de::DeserializeOwned;
use serde_json::Value;

const PROFILE: [&str; 7] = [
    "defaultAction",
    "defaultErrnoRet",
    "architectures",
    "flags",
    "listenerPath",
    "listenerMetadata",
    "syscalls",
];
const RULE: [&str; 4] = ["names", "action", "errnoRet", "args"];
const ARG: [&str; 4] = ["index", "value", "valueTwo", "op"];

impl Profile {
    /// Reads OCI's `linux.seccomp`. Unknown properties are ignored, unknown values refused.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the place (`seccomp.syscalls[2].args[0].op`) and what is allowed.
    pub fn from_oci(seccomp: &Value) -> Result<Profile> {
        let mut top = known("seccomp", seccomp, &PROFILE)?;
        let rules = top.as_object_mut().and_then(|top| top.remove("syscalls")).unwrap_or_default();
        variant::<Action>("seccomp", &top, "defaultAction")?;
        let mut profile: Profile = read("seccomp", top)?;
        for (n, name) in profile.architectures.iter().flatten().enumerate() {
            Arch::parse(name).map_err(|e| on(format!("seccomp.architectures[{n}]"), &e))?;
        }
        for (n, name) in profile.flags.iter().flatten().enumerate() {
            flag(name).map_err(|e| on(format!("seccomp.flags[{n}]"), &e))?;
        }
        errno_of(profile.default_errno_ret, None, profile.default_action)
            .map_err(|e| at("seccomp.default", &e))?;
        let rules = list("seccomp.syscalls", &rules)?;
        let rules = rules.iter().enumerate().map(|(n, r)| rule(&format!("seccomp.syscalls[{n}]"), r));
        let rules = rules.collect::<Result<Vec<Rule>>>()?;
        let mut rules: Vec<Rule> = rules.into_iter().flat_map(alternatives).collect();
        refuse_notify(&profile, &rules)?;
        let default = (profile.default_action, errno(profile.default_action, profile.default_errno_ret));
        // The first that matches decides. Stable: the order among those with conditions stays.
        rules.sort_by_key(|rule| {
            let redundant = (rule.action, errno(rule.action, rule.errno_ret)) == default;
            (redundant, rule.args.as_ref().is_some_and(|args| !args.is_empty()))
        });
        profile.syscalls = Some(rules);
        profile.flags.get_or_insert_with(|| vec!["SECCOMP_FILTER_FLAG_SPEC_ALLOW".to_string()]);
        if profile.listener_path.as_deref() == Some("") {
            profile.listener_path = None;
        }
        if profile.listener_metadata.as_ref().is_some_and(|m| !m.is_empty())
            && profile.listener_path.is_none()
        {
            return Err(Error::bad_input(
                "seccomp.listenerMetadata",
                "given without listenerPath (allowed: both, or listenerPath alone)",
            ));
        }
        Ok(profile)
    }
}

/// What runc and crun refuse too: an agent would be asked about its own runtime's calls.
fn refuse_notify(profile: &Profile, rules: &[Rule]) -> Result<()> {
    if profile.default_action == Action::Notify {
        return Err(Error::bad_input(
            "seccomp.defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    let writes = |rule: &Rule| rule.action == Action::Notify && rule.names.iter().any(|name| name == "write");
    match rules.iter().position(writes) {
        Some(n) => Err(Error::bad_input(
            format!("seccomp.syscalls[{n}].action"),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        )),
        None => Ok(()),
    }
}

/// What an action without `errnoRet` answers.
fn errno(action: Action, given: Option<u32>) -> u32 {
    if action.takes_errno() { given.unwrap_or(1) } else { 0 }
}

fn rule(place: &str, value: &Value) -> Result<Rule> {
    let mut fields = known(place, value, &RULE)?;
    let args = fields.as_object_mut().and_then(|fields| fields.remove("args")).unwrap_or_default();
    variant::<Action>(place, &fields, "action")?;
    let mut rule: Rule = read(place, fields)?;
    errno_of(rule.errno_ret, None, rule.action).map_err(|e| at(&format!("{place}."), &e))?;
    if rule.names.is_empty() {
        return Err(Error::bad_input(format!("{place}.names"), "empty (allowed: at least one call)"));
    }
    let args = list(&format!("{place}.args"), &args)?;
    let args = args.iter().enumerate().map(|(n, arg)| condition(&format!("{place}.args[{n}]"), arg));
    let args = args.collect::<Result<Vec<Arg>>>()?;
    rule.args = Some(args).filter(|args| !args.is_empty());
    Ok(rule)
}

/// Conditions on different arguments must all hold. Two on one argument cannot stand in one rule of libseccomp, so runc and
/// crun have always made each condition of such a rule a rule of its own: what such a config.json means everywhere.
fn alternatives(rule: Rule) -> Vec<Rule> {
    let args = rule.args.as_deref().unwrap_or_default();
    let twice = (0..).zip(args).any(|(n, arg)| args.iter().skip(n + 1).any(|other| other.index == arg.index));
    if !twice {
        return vec![rule];
    }
    args.iter().map(|arg| Rule { args: Some(vec![*arg]), ..rule.clone() }).collect()
}

fn condition(place: &str, value: &Value) -> Result<Arg> {
    let fields = known(place, value, &ARG)?;
    variant::<Operator>(place, &fields, "op")?;
    let arg: Arg = read(place, fields)?;
    if arg.index > 5 {
        return Err(Error::bad_input(format!("{place}.index"), format!("{} (allowed: 0 to 5)", arg.index)));
    }
    Ok(arg)
}

/// The object's properties that we know; null is absent.
fn known(place: &str, value: &Value, names: &[&str]) -> Result<Value> {
    let Some(object) = value.as_object() else {
        return Err(Error::bad_input(place, "not an object (allowed: an object)"));
    };
    let kept = object.iter().filter(|(key, value)| names.contains(&key.as_str()) && !value.is_null());
    Ok(Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

fn list<'a>(place: &str, value: &'a Value) -> Result<&'a [Value]> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        _ => Err(Error::bad_input(place, "not a list (allowed: a list)")),
    }
}

/// A name out of a fixed list, before the rest, so that the sentence says which field it is about.
fn variant<T: DeserializeOwned>(place: &str, object: &Value, key: &str) -> Result<()> {
    object.get(key).map_or(Ok(()), |value| read::<T>(&format!("{place}.{key}"), value.clone()).map(drop))
}

/// The same problem at another place.
fn on(place: String, error: &Error) -> Error {
    let sentence = error.sentence();
    let (_, problem) = sentence.split_once(": ").unwrap_or(("", &sentence));
    Error::bad_input(place, problem)
}

/// `errnoRet: …` behind a place that ends before it.
fn at(place: &str, error: &Error) -> Error {
    let sentence = error.sentence();
    Error::bad_input(
        format!("{place}ErrnoRet").replace(".ErrnoRet", ".errnoRet"),
        sentence.trim_start_matches("errnoRet: "),
    )
}

/// serde's words about an unknown name, as all others have them.
fn told(words: &str) -> String {
    let parts =
        words.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected one of "));
    match parts {
        Some((found, allowed)) => {
            format!("'{}' (allowed: {})", text::shorten(found, 60), allowed.replace('`', ""))
        }
        None => words.to_string(),
    }
}

fn read<T: DeserializeOwned>(place: &str, value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Error::bad_input(place, text::shorten(&told(&text::escape(&e.to_string())), 400)))
}
