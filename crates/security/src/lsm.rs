//! Linux security modules: which are active, and labels for the next exec.

use drydock_core::{Error, Result, text};

/// The active security modules, from /sys/kernel/security/lsm; where securityfs is not mounted, those that show
/// themselves elsewhere (AppArmor's module parameter, SELinux's file system).
pub fn lsm_active() -> Vec<String> {
    if let Ok(list) = std::fs::read_to_string("/sys/kernel/security/lsm") {
        return list.trim().split(',').filter(|name| !name.is_empty()).map(ToString::to_string).collect();
    }
    let mut found = vec!["capability".to_string()];
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y')) {
        found.push("apparmor".to_string());
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if filesystems.lines().any(|line| line.ends_with("\tselinuxfs")) {
        found.push("selinux".to_string());
    }
    found
}

fn inactive(what: &'static str, asked: &str, module: &str) -> Error {
    let shown = text::shorten(&text::escape(asked), 60);
    let active = lsm_active().join(", ");
    // Known before anything is touched, and nothing that trying again would mend.
    Error::bad_input(
        what,
        format!("'{shown}' cannot be set: {module} is not active in this kernel (active: {active})"),
    )
    .hint(format!("boot with lsm=…,{what}, or leave the {what} option out"))
}

/// Checks an AppArmor profile's name. False when there is nothing to do: `unconfined` without AppArmor.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a name that cannot be written, and when AppArmor is not active.
pub fn check_apparmor(profile: &str) -> Result<bool> {
    plain("apparmor", profile, "a profile name without spaces or control characters")?;
    if lsm_active().iter().any(|m| m == "apparmor") {
        return Ok(true);
    }
    if profile == "unconfined" { Ok(false) } else { Err(inactive("apparmor", profile, "AppArmor")) }
}

/// Checks an SELinux context: `user:role:type` or `user:role:type:level`.
///
/// # Errors
/// As [`check_apparmor`].
pub fn check_selinux(label: &str) -> Result<()> {
    plain("selinux", label, "USER:ROLE:TYPE[:LEVEL]")?;
    let parts: Vec<&str> = label.splitn(4, ':').collect();
    if parts.len() < 3 || parts.iter().any(|p| p.is_empty()) {
        let shown = text::shorten(&text::escape(label), 60);
        return Err(Error::bad_input(
            "selinux",
            format!("'{shown}' is no context (allowed: USER:ROLE:TYPE[:LEVEL])"),
        ));
    }
    if lsm_active().iter().any(|m| m == "selinux") {
        Ok(())
    } else {
        Err(inactive("selinux", label, "SELinux"))
    }
}

fn plain(what: &str, value: &str, allowed: &str) -> Result<()> {
    let fits = !value.is_empty() && value.len() < 4096 && value.chars().all(|c| !c.is_control() && c != ' ');
    if fits {
        return Ok(());
    }
    let shown = text::shorten(&text::escape(value), 60);
    Err(Error::bad_input(what, format!("'{shown}' is no label (allowed: {allowed})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inactive_modules_are_named() {
        let active = lsm_active();
        assert!(active.iter().any(|m| m == "capability"), "{active:?}");
        if !active.iter().any(|m| m == "apparmor") {
            assert!(!check_apparmor("unconfined").unwrap());
            let error = check_apparmor("docker-default").unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("AppArmor is not active"), "{error}");
        }
        if !active.iter().any(|m| m == "selinux") {
            assert_eq!(check_selinux("a:b:c:s0:c1,c2").unwrap_err().exit_code(), 2);
        }
        for bad in ["", "a:b", "::", "a:b: c", "a\nb:c:d"] {
            assert_eq!(check_selinux(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
        assert_eq!(check_apparmor("x\n").unwrap_err().exit_code(), 2);
    }
}
