//! State that exec passes on and that a container should not have from whoever started it.

use drydock_core::error::CallExt;
use drydock_core::{Result, sys};

/// Puts back to what a login would have: every signal's disposition, an empty signal mask, umask 022, execution domain
/// PER_LINUX, no timer slack of its own, no pending alarm. In the child, before the command's own settings.
/// Nice value, I/O priority and CPU affinity are limits that the caller may have meant; they are [`crate::Request`]'s.
///
/// # Errors
/// [`drydock_core::Kind::Failed`] with the call; none is expected.
pub fn reset_inherited() -> Result<()> {
    sys::signal::reset_dispositions();
    sys::signal::unblock_all().call(|| "rt_sigprocmask(SIG_SETMASK, [])")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    nix::unistd::alarm::cancel();
    // 0 means "as at the start of this thread's life"; refused only under a filter, and then harmless.
    let _ = rustix::thread::set_current_timer_slack(None);
    sys::personality::set(0).call(|| "personality(PER_LINUX)")
}
