//! delegate: a subtree for a user.

use crate::args::Delegate;
use crate::names::{layout_for, open_ours};
use crate::say::{done, explainer, warn};
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::text::{escape, shorten};
use drydock_core::{Ctx, Error, Result};
use serde_json::json;

/// `cgroupctl delegate`.
pub fn delegate(args: &Delegate) -> Outcome {
    let owner = Owner::parse(&args.user)?;
    let cgroup = open_ours(&args.name, &layout_for(&args.name)?, "delegate")?;
    let explainer = explainer(&args.say);
    give(&cgroup, owner, &Ctx::new(&explainer, None))?;
    let report = json!({
        "name": args.name, "uid": owner.uid, "gid": owner.gid, "confined": cgroup.delegation_is_safe(),
    });
    done(&args.say, &report, &format!("{}: below it, uid {} may make cgroups now", args.name, owner.uid))?;
    Ok(0)
}

/// Who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: Option<u32>,
}

/// Hands it over, and says what that does not do.
pub fn give(cgroup: &Cgroup, owner: Owner, ctx: &Ctx<'_>) -> Result<()> {
    cgroup.delegate_to(owner.uid, owner.gid, ctx)?;
    if !cgroup.delegation_is_safe() {
        warn(
            "cgroup v1 does not confine a user to what was delegated: they may leave it by any other cgroup of theirs",
        );
    }
    Ok(())
}

impl Owner {
    /// `USER[:GROUP]`, names or numbers.
    ///
    /// # Errors
    /// Names that are not there, and numbers that are none.
    pub fn parse(text: &str) -> Result<Self> {
        let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        Ok(Self {
            uid: id(user, "/etc/passwd", "user")?,
            gid: group.map(|g| id(g, "/etc/group", "group")).transpose()?,
        })
    }
}

/// A number, or the third field of a name's line. Read by hand: a static binary has no name service.
fn id(word: &str, file: &str, what: &str) -> Result<u32> {
    let bad = || {
        let shown = shorten(&escape(word), 40).to_string();
        Error::bad_input(what, format!("'{shown}' is not known (allowed: a name of {file}, or a number)"))
    };
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        return word.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(bad);
    }
    let table = std::fs::read(file).unwrap_or_default();
    let table = String::from_utf8_lossy(&table).into_owned();
    let line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == word && !word.is_empty()).then(|| fields.nth(1)?.parse().ok())?
    };
    table.lines().find_map(line).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        assert_eq!(Owner::parse("0").unwrap(), Owner { uid: 0, gid: None });
        assert_eq!(Owner::parse("root:0").unwrap(), Owner { uid: 0, gid: Some(0) });
        for bad in ["", "no-such-user-x", "-1", "4294967295", "4294967296", "root:", "root:no-such", ":"] {
            assert_eq!(Owner::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
