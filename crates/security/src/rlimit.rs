//! Resource limits by name. Source: getrlimit(2).

use crate::plan::Action;
use crate::request::Rlimit;
use drydock_core::{Error, Result, text};
use rustix::process::Resource;

/// Every limit that Linux has.
pub const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// `nofile` or `RLIMIT_NOFILE`, in any case.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the allowed names.
pub fn resource(name: &str) -> Result<Resource> {
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix("rlimit_").unwrap_or(&lower);
    let found = NAMES.iter().find(|(known, _)| *known == bare).map(|(_, resource)| *resource);
    found.ok_or_else(|| {
        let shown = text::shorten(&text::escape(name), 60);
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        Error::bad_input("rlimit", format!("'{shown}' is not one (allowed: {})", names.join(", ")))
    })
}

impl Rlimit {
    /// The calling process's limit with what of this one is above it; `None` if it need not be raised.
    pub(crate) fn raised(&self, resource: Resource) -> Option<Rlimit> {
        let now = rustix::process::getrlimit(resource);
        let (soft, hard) = (now.current.unwrap_or(u64::MAX), now.maximum.unwrap_or(u64::MAX));
        let raised = Rlimit { soft: self.soft.max(soft), hard: self.hard.max(hard), ..self.clone() };
        (raised.hard > hard).then_some(raised)
    }

    /// Docker's `--ulimit`: `nofile=1024:2048`, `core=0` (both), `memlock=-1` or `memlock=unlimited`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for another form, an unknown name, or soft above hard.
    pub fn parse(word: &str) -> Result<Rlimit> {
        let bad = || {
            let shown = text::shorten(&text::escape(word), 60);
            Error::bad_input(
                "--ulimit",
                format!("'{shown}' is no limit (allowed: NAME=SOFT[:HARD], numbers or unlimited)"),
            )
        };
        let (name, values) = word.split_once('=').ok_or_else(bad)?;
        resource(name)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let limit = Rlimit {
            name: name.to_ascii_lowercase(),
            soft: value(soft).ok_or_else(bad)?,
            hard: value(hard).ok_or_else(bad)?,
            best_effort: false,
        };
        check_one(&limit)?;
        Ok(limit)
    }
}

fn value(text: &str) -> Option<u64> {
    match text {
        "-1" | "unlimited" | "infinity" => Some(u64::MAX),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

fn check_one(limit: &Rlimit) -> Result<Resource> {
    let resource = resource(&limit.name)?;
    if limit.soft > limit.hard {
        let problem = format!("soft {} is above hard {} (allowed: soft up to hard)", limit.soft, limit.hard);
        return Err(Error::bad_input(format!("rlimit {}", limit.name), problem));
    }
    Ok(resource)
}

/// The steps of a list of limits.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for an unknown name, one given twice, or soft above hard.
pub(crate) fn check(limits: &[Rlimit]) -> Result<Vec<Action>> {
    let mut actions: Vec<Action> = Vec::new();
    for limit in limits {
        let resource = check_one(limit)?;
        let same = |a: &Action| matches!(a, Action::Rlimit { resource: other, .. } if *other == resource);
        if actions.iter().any(same) {
            return Err(Error::bad_input(format!("rlimit {}", limit.name), "given twice (allowed: once)"));
        }
        actions.push(Action::Rlimit { resource, limit: limit.clone() });
    }
    Ok(actions)
}

/// A limit as setrlimit(2) takes it: `None` is unlimited.
pub(crate) fn raw(value: u64) -> Option<u64> {
    Some(value).filter(|v| *v != u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_dockers_form() {
        let limit = Rlimit::parse("nofile=1024:2048").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, 2048));
        assert_eq!(Rlimit::parse("core=0").unwrap().hard, 0);
        assert_eq!(Rlimit::parse("MEMLOCK=-1").unwrap().soft, u64::MAX);
        for bad in [
            "",
            "nofile",
            "nofile=",
            "nofile=x",
            "nofile=2:1",
            "nofil=1",
            "nofile=1:2:3",
            "nofile=-2",
            "nofile=+1",
        ] {
            assert_eq!(Rlimit::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn refuses_twice() {
        let limit = |name: &str| Rlimit { name: name.into(), soft: 1, hard: 1, best_effort: false };
        assert!(check(&[limit("nofile"), limit("core")]).is_ok());
        assert!(check(&[limit("nofile"), limit("RLIMIT_NOFILE")]).is_err());
    }
}
