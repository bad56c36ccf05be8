//! Words of the command line that need more than clap's checks, and cgroups that are not ours to touch.

use drydock_cgroups::{Cgroup, Layout, check_name};
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::time::Duration;

/// A pid as typed.
pub fn pid(text: &str) -> Result<i32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse::<i32>().ok().filter(|pid| digits && *pid > 0).ok_or_else(|| {
        let shown = shorten(&escape(text), 40);
        Error::bad_input("PID", format!("'{shown}' is not a process id (allowed: 1 to 2147483647)"))
    })
}

/// Seconds as typed, with a fraction.
pub fn seconds(object: &str, text: &str, low: f64, high: f64) -> Result<Duration> {
    let plain = !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = text.parse::<f64>().ok().filter(|v| plain && (low..=high).contains(v));
    value.map(Duration::from_secs_f64).ok_or_else(|| {
        let shown = shorten(&escape(text), 40);
        Error::bad_input(object, format!("'{shown}' is not a time (allowed: {low} to {high} seconds)"))
    })
}

/// The layout in which this name is looked up, with the name checked.
pub fn layout_for(name: &str) -> Result<Layout> {
    check_name(name)?;
    Ok(Layout::detect()?.for_name(name))
}

/// Opens a cgroup that is to be killed, frozen or removed. Refuses what belongs to the system's manager, or holds the
/// system's first process: killing that would take the machine down.
pub fn open_ours(name: &str, layout: &Layout, verb: &str) -> Result<Cgroup> {
    guard_name(name, verb)?;
    let cgroup = Cgroup::open(name, layout)?;
    guard_processes(&cgroup, name, verb)?;
    Ok(cgroup)
}

/// The part of [`open_ours`] that needs only the name.
pub fn guard_name(name: &str, verb: &str) -> Result<()> {
    check_name(name)?;
    let first = name.split('/').next().unwrap_or_default();
    let managed = [".slice", ".scope", ".service", ".mount", ".socket", ".swap"];
    if managed.iter().any(|suffix| first.ends_with(suffix)) {
        return Err(Error::bad_input(
            format!("cgroup '{}'", escape(name)),
            format!(
                "will not {verb} what belongs to systemd (allowed: cgroups outside of its slices and scopes)"
            ),
        )
        .hint("use systemctl"));
    }
    Ok(())
}

/// The part of [`open_ours`] that looks who is inside.
pub fn guard_processes(cgroup: &Cgroup, name: &str, verb: &str) -> Result<()> {
    // In a container the first process is the container's own, which is just as fatal for us.
    if cgroup.all_pids()?.contains(&1) {
        let problem = format!("will not {verb} the cgroup that holds process 1");
        return Err(Error::failed(format!("cgroup '{}'", escape(name)), problem).in_stage("cgroup"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_and_seconds() {
        assert_eq!(pid("12").unwrap(), 12);
        for bad in ["", "0", "-1", "abc", "2147483648", "+1", " 1", "1.0"] {
            assert_eq!(pid(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(seconds("x", "0.5", 0.05, 10.0).unwrap(), Duration::from_millis(500));
        for bad in ["", "0", "-1", "abc", "1e12", "nan", "inf", "11", "1ns"] {
            assert_eq!(seconds("x", bad, 0.05, 10.0).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn the_systems_own() {
        for name in ["system.slice", "user.slice/user-0.slice", "init.scope", "x.service/y"] {
            assert_eq!(guard_name(name, "kill").unwrap_err().exit_code(), 2, "{name}");
        }
        assert!(guard_name("drydock/web", "kill").is_ok());
    }
}
