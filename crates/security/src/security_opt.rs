//! `--security-opt` words, as Docker and Podman have them.

use crate::request::{Request, Seccomp};
use drydock_core::{Error, Result, text};

const ALLOWED: &str = "no-new-privileges[=true|false], seccomp=PROFILE.json|unconfined|default, apparmor=PROFILE|unconfined, \
                       label=disable|type:T|user:U|role:R|level:L";

/// Applies one word to a request. Docker's older `key:value` form is understood too.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with the allowed words.
pub fn security_opt(request: &mut Request, word: &str) -> Result<()> {
    // `label=type:t` has a colon in its value, so an equals sign is looked for first.
    let (key, value) = match word.split_once('=').or_else(|| word.split_once(':')) {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    match (key, value) {
        ("no-new-privileges" | "no-new-privs", None | Some("true")) => request.no_new_privs = true,
        ("no-new-privileges" | "no-new-privs", Some("false")) => request.no_new_privs = false,
        ("seccomp", Some("unconfined")) => request.seccomp = Seccomp::None,
        ("seccomp", Some("default")) => request.seccomp = Seccomp::Default,
        ("seccomp", Some(path)) if !path.is_empty() => request.seccomp = Seccomp::Profile(path.into()),
        ("apparmor", Some(profile)) if !profile.is_empty() => request.apparmor = Some(profile.to_string()),
        ("label", Some("disable")) => request.selinux = None,
        ("label", Some(part)) => label(request, part).ok_or_else(|| refuse(word))?,
        _ => return Err(refuse(word)),
    }
    Ok(())
}

fn refuse(word: &str) -> Error {
    let shown = text::shorten(&text::escape(word), 80);
    Error::bad_input("--security-opt", format!("'{shown}' is not understood (allowed: {ALLOWED})"))
}

/// Changes one part of the SELinux context, from the field's usual one where none is set yet.
fn label(request: &mut Request, part: &str) -> Option<()> {
    let (name, value) = part.split_once(':')?;
    let current = request.selinux.as_deref().unwrap_or("system_u:system_r:container_t:s0");
    // The level may hold colons itself: s0:c1,c2.
    let mut parts: Vec<&str> = current.splitn(4, ':').collect();
    let index = ["user", "role", "type", "level"].iter().position(|known| *known == name)?;
    if value.is_empty() || (index < 3 && value.contains(':')) {
        return None;
    }
    if parts.len() == 3 {
        parts.push("s0");
    }
    *parts.get_mut(index)? = value;
    request.selinux = Some(parts.join(":"));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(words: &[&str]) -> Result<Request> {
        let mut request = Request { seccomp: Seccomp::Default, ..Request::default() };
        words.iter().try_for_each(|word| security_opt(&mut request, word))?;
        Ok(request)
    }

    #[test]
    fn words() {
        assert!(with(&["no-new-privileges"]).unwrap().no_new_privs);
        assert!(with(&["no-new-privileges:true"]).unwrap().no_new_privs);
        assert!(!with(&["no-new-privileges", "no-new-privileges=false"]).unwrap().no_new_privs);
        assert_eq!(with(&["seccomp=unconfined"]).unwrap().seccomp, Seccomp::None);
        assert_eq!(with(&["seccomp=a=b.json"]).unwrap().seccomp, Seccomp::Profile("a=b.json".into()));
        assert_eq!(with(&["apparmor=docker-default"]).unwrap().apparmor.unwrap(), "docker-default");
        let label = with(&["label=type:svirt_t", "label=level:s0:c1,c2"]).unwrap().selinux.unwrap();
        assert_eq!(label, "system_u:system_r:svirt_t:s0:c1,c2");
        assert_eq!(with(&["label=type:t", "label=disable"]).unwrap().selinux, None);
    }

    #[test]
    fn refusals_name_what_is_allowed() {
        for bad in [
            "",
            "=",
            "seccomp",
            "seccomp=",
            "apparmor",
            "apparmor=",
            "label",
            "label=",
            "label=type",
            "label=type:",
            "label=type:a:b",
            "label=colour:red",
            "no-new-privileges=yes",
            "nonewprivs",
            "systempaths=unconfined",
            "\x1b[2J",
        ] {
            let error = with(&[bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
            assert!(
                error.to_string().contains("allowed: no-new-privileges")
                    && !error.to_string().contains('\x1b')
            );
        }
    }
}
