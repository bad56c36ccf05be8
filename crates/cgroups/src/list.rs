//! A device list as v1's kernel keeps one.

use crate::rules::{DeviceRule, DeviceType, Which, line};
use drydock_core::{Error, Result};
use std::collections::BTreeMap;

/// A device list as v1's kernel keeps one: what holds for all, and exceptions from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    allow_all: bool,
    exceptions: BTreeMap<Which, u8>,
    /// Where each was first named: the kernel shows them in the order in which they were written.
    order: BTreeMap<Which, usize>,
}

impl List {
    /// What the root cgroup has, and with it each new one that nobody has closed.
    pub fn open() -> Self {
        Self { allow_all: true, ..Self::default() }
    }

    /// The rules, applied in order to a list that denies everything.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a rule that takes a single device out of a range of exceptions: v1's kernel
    /// would ignore it without a word.
    pub fn of(rules: &[DeviceRule]) -> Result<Self> {
        let mut list = Self::default();
        for rule in rules {
            let which = (rule.kind, rule.major, rule.minor);
            if rule.kind == DeviceType::All {
                list = Self { allow_all: rule.allow, ..Self::default() };
            } else if rule.allow == list.allow_all {
                list.take_out(which, rule)?;
            } else {
                *list.exceptions.entry(which).or_default() |= rule.bits();
                let next = list.order.len();
                list.order.entry(which).or_insert(next);
            }
        }
        Ok(list)
    }

    fn take_out(&mut self, which: Which, rule: &DeviceRule) -> Result<()> {
        let (kind, major, minor) = which;
        for range in [(kind, None, minor), (kind, major, None), (kind, None, None)] {
            let within = self.exceptions.get(&range).filter(|_| range != which);
            if within.is_some_and(|bits| bits & rule.bits() != 0) {
                let problem = format!(
                    "takes '{}' out of '{}' (not possible on cgroup v1; allowed: the same range, or rules that do not overlap)",
                    rule,
                    line(range, u8::MAX)
                );
                return Err(Error::bad_input("device rule", problem));
            }
        }
        if let Some(bits) = self.exceptions.get_mut(&which) {
            *bits &= !rule.bits();
        }
        self.exceptions.retain(|_, bits| *bits != 0);
        Ok(())
    }

    /// devices.list as the kernel shows it: what is allowed. A list with `a` allows all, and does not show what not.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for text in text.lines() {
            match DeviceRule::parse(true, text) {
                Ok(DeviceRule { kind: DeviceType::All, .. }) => list.allow_all = true,
                Ok(rule) => {
                    list.exceptions.insert((rule.kind, rule.major, rule.minor), rule.bits());
                }
                Err(_) => {}
            }
        }
        list
    }

    /// The lines for devices.allow and devices.deny, `(allow, line)`, that turn `from` into this list. What both have is
    /// not touched, so that nobody who uses it is refused meanwhile.
    pub fn changes(&self, from: &Self) -> Vec<(bool, String)> {
        let anew = from.allow_all || self.allow_all;
        let none = BTreeMap::new();
        let old = if anew { &none } else { &from.exceptions };
        let all = anew.then(|| (self.allow_all, "a".to_string()));
        let minus = |a: &BTreeMap<Which, u8>, b: &BTreeMap<Which, u8>| -> Vec<(Which, u8)> {
            let left = |(which, bits): (&Which, &u8)| (*which, bits & !b.get(which).copied().unwrap_or(0));
            a.iter().map(left).filter(|(_, bits)| *bits != 0).collect()
        };
        let gone = minus(old, &self.exceptions).into_iter().map(|(w, b)| (self.allow_all, line(w, b)));
        let mut new = minus(&self.exceptions, old);
        new.sort_by_key(|(which, _)| self.order.get(which));
        let new = new.into_iter().map(|(w, b)| (!self.allow_all, line(w, b)));
        all.into_iter().chain(gone).chain(new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lines: &[&str]) -> Vec<DeviceRule> {
        lines.iter().map(|l| DeviceRule::parse(l.starts_with('+'), &l[1..]).unwrap()).collect()
    }

    fn changes(from: &str, lines: &[&str]) -> Vec<String> {
        let list = List::of(&rules(lines)).unwrap();
        let shown = |(allow, line): (bool, String)| format!("{}{line}", if allow { '+' } else { '-' });
        list.changes(&List::parse(from)).into_iter().map(shown).collect()
    }

    #[test]
    fn a_new_cgroup_is_closed_first() {
        assert_eq!(changes("a *:* rwm\n", &["-a", "+c 1:3 r", "+c 1:3 w"]), ["-a", "+c 1:3 rw"]);
        assert_eq!(changes("a *:* rwm\n", &["+a"]), ["+a"]);
        assert_eq!(
            changes("a *:* rwm\n", &["+c 10:2 r", "+b 8:0 r", "+c 1:3 r"])[1..],
            ["+c 10:2 r", "+b 8:0 r", "+c 1:3 r"]
        );
        assert_eq!(changes("a *:* rwm\n", &["+a", "-b 8:0 rwm", "+b 8:0 r"]), ["+a", "-b 8:0 wm"]);
    }

    #[test]
    fn an_existing_list_changes_only_where_it_differs() {
        let from = "c 1:3 rwm\nc 1:5 r\n";
        assert_eq!(changes(from, &["+c 1:3 r", "+c 1:9 r"]), ["-c 1:3 wm", "-c 1:5 r", "+c 1:9 r"]);
        assert_eq!(changes(from, &["+c 1:5 r", "+c 1:3 rwm"]), Vec::<String>::new());
    }

    #[test]
    fn v1_cannot_take_one_out_of_many() {
        assert_eq!(List::of(&rules(&["+c *:* rwm", "-c 1:3 w"])).unwrap_err().exit_code(), 2);
        assert_eq!(List::of(&rules(&["+a", "-b 8:* rwm", "+b 8:0 r"])).unwrap_err().exit_code(), 2);
        assert!(List::of(&rules(&["+c *:* m", "-c 1:3 w"])).is_ok(), "they do not overlap");
    }
}
