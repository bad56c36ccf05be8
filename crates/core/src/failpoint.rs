//! Failpoints: named places at which a test has the program end itself as by SIGKILL, with nothing cleaned up. They are in
//! builds with debug assertions only; a release has none.
//!
//! `DRYDOCK_FAILPOINT=NAME` is for the first time that a process comes by NAME, `NAME#3` for the third. `DRYDOCK_FAILPOINTS`
//! names a file that gets a line `PID NAME` for each that is passed.

/// Comes by a failpoint. The name is made only when somebody has asked for one.
#[cfg(debug_assertions)]
pub fn pass(name: impl FnOnce() -> String) {
    armed::pass(name);
}

/// Comes by a failpoint, of which a release has none.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_: impl FnOnce() -> String) {}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::sync::Mutex;

    /// What this process and those before it have come by. A process is cloned with what its parent has seen.
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    pub fn pass(name: impl FnOnce() -> String) {
        let (wanted, list) = (std::env::var("DRYDOCK_FAILPOINT"), std::env::var_os("DRYDOCK_FAILPOINTS"));
        if wanted.is_err() && list.is_none() {
            return;
        }
        let name = name();
        if let Some(list) = list
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(list)
        {
            let _ = file.write_all(format!("{} {name}\n", std::process::id()).as_bytes());
        }
        let Ok(wanted) = wanted else { return };
        let Ok(mut seen) = SEEN.lock() else { return };
        seen.push(name.clone());
        let times = seen.iter().filter(|one| **one == name).count();
        let here = match wanted.rsplit_once('#') {
            Some((start, count)) => start == name && count.parse() == Ok(times),
            None => wanted == name,
        };
        if here {
            let own = nix::unistd::Pid::this();
            let _ = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL);
            // The first process of a pid namespace cannot kill itself so.
            std::process::abort();
        }
    }
}
