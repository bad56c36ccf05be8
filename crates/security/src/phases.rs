//! When which steps are taken: settings, limits, privileges, and the filter at last.
//!
//! A process that waits for its word among others must have given up its privileges by then, and so must one that is
//! about to be born among them: whoever has CAP_SYS_PTRACE there may do with it what it likes.

use crate::apply::{Report, install, perform, scheduler, set_rlimit};
use crate::plan::{Action, Plan};
use crate::seccomp::{Call, Handover};
use drydock_core::{Ctx, Result};
use rustix::process::Resource;

/// What a process does between giving up its privileges and its exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// The calls that must go through.
    pub calls: Vec<Call>,
    /// Others may see the process meanwhile, and take hold of it: then it is under its filter already, if that permits the
    /// calls.
    pub seen: bool,
}

impl Plan {
    /// Takes all steps, in order: [`Plan::apply_settings`], then [`Plan::apply_privileges`] without a handover.
    ///
    /// # Errors
    /// As theirs.
    pub fn apply(&self, ctx: &Ctx<'_>) -> Result<Report> {
        self.apply_settings(ctx)?;
        self.apply_privileges(ctx, None)
    }

    /// Limits, priorities, labels: what needs the caller's privileges and drops none. May be done well before
    /// [`Plan::apply_privileges`], so that what cannot be set is known early; but behind
    /// [`crate::reset_inherited`], which sets the execution domain back.
    ///
    /// # Errors
    /// [`drydock_core::Kind::Failed`] with the call that failed.
    pub fn apply_settings(&self, ctx: &Ctx<'_>) -> Result<()> {
        self.perform_those(ctx, Action::is_setting)
    }

    /// The settings that are made through the process's own files in /proc or with privileges over the host, for one
    /// that goes on to where it has neither. Hard limits are raised, none is lowered yet: the rest follows by
    /// [`Plan::apply_late_settings`], and for one that leaves its place to an heir by [`Plan::apply_scheduler_to`].
    ///
    /// # Errors
    /// As [`Plan::apply_settings`].
    pub fn apply_early_settings(&self, ctx: &Ctx<'_>, heir: bool) -> Result<()> {
        for action in &self.actions {
            let Action::Rlimit { resource, limit } = action else { continue };
            if let Some(raised) = limit.raised(*resource) {
                // Refused: the whole limit will be, too, with its reason.
                let _ = set_rlimit(None, *resource, &raised);
            }
        }
        let early = |action: &Action| action.is_setting() && !action.is_late_setting();
        self.perform_those(ctx, |action| early(action) && !(heir && matches!(action, Action::Scheduler(_))))
    }

    /// The scheduling policy, given to the heir by whoever has the privilege: a child does not inherit every policy, and a
    /// process with a deadline may have none (sched(7), "Resetting scheduling policy for child processes").
    ///
    /// # Errors
    /// As [`Plan::apply_settings`].
    pub fn apply_scheduler_to(&self, ctx: &Ctx<'_>, pid: i32) -> Result<()> {
        for action in &self.actions {
            if let Action::Scheduler(attributes) = action {
                ctx.perform(action, |_| scheduler(pid, *attributes))?;
            }
        }
        Ok(())
    }

    /// What [`Plan::apply_early_settings`] has left, but for the number of processes, which would count the one that is
    /// to bear the command's: [`Plan::apply_process_limit`].
    ///
    /// # Errors
    /// As [`Plan::apply_settings`].
    pub fn apply_late_settings(&self, ctx: &Ctx<'_>) -> Result<()> {
        self.perform_those(ctx, |action| action.is_late_setting() && !is_process_limit(action))
    }

    /// RLIMIT_NPROC, alone.
    ///
    /// # Errors
    /// As [`Plan::apply_settings`].
    pub fn apply_process_limit(&self, ctx: &Ctx<'_>) -> Result<()> {
        self.perform_those(ctx, is_process_limit)
    }

    /// Whether [`Plan::apply_process_limit`] has something to do.
    pub fn limits_processes(&self) -> bool {
        self.actions.iter().any(is_process_limit)
    }

    fn perform_those(&self, ctx: &Ctx<'_>, which: impl Fn(&Action) -> bool) -> Result<()> {
        let mut report = Report::default();
        let mut those = self.actions.iter().filter(|action| which(action));
        those.try_for_each(|action| ctx.perform(action, |action| perform(action, &mut report)))
    }

    /// Ids, capabilities, the filter. To be called in the child right before exec, single-threaded: all of them are a
    /// thread's. Allocates little and starts no process. With a [`Plan::listener`] the notify descriptor goes to the
    /// parent through `handover`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::Failed`] with the call that failed; the steps before it have been taken, so the process
    /// must not exec.
    pub fn apply_privileges(&self, ctx: &Ctx<'_>, handover: Option<&Handover>) -> Result<Report> {
        self.take(ctx, &self.privileges(), handover)
    }

    /// [`Plan::apply_privileges`] as far as a process can go that has something to do before its exec; the filter may be
    /// left to [`Plan::apply_rest`].
    ///
    /// # Errors
    /// As [`Plan::apply_privileges`].
    pub fn apply_drop(&self, ctx: &Ctx<'_>, ahead: &Ahead) -> Result<Report> {
        let (now, _) = self.halves(ahead);
        self.take(ctx, &now, None)
    }

    /// What [`Plan::apply_drop`] has left.
    ///
    /// # Errors
    /// As [`Plan::apply_privileges`].
    pub fn apply_rest(&self, ctx: &Ctx<'_>, ahead: &Ahead, handover: Option<&Handover>) -> Result<Report> {
        let (_, rest) = self.halves(ahead);
        self.take(ctx, &rest, handover)
    }

    /// Whether a process keeps CAP_SYS_ADMIN between [`Plan::apply_drop`] and [`Plan::apply_rest`] that the command does
    /// not have: the filter needs it, and does not permit what is ahead.
    pub fn waits_privileged(&self, ahead: &Ahead) -> bool {
        let (_, rest) = self.halves(ahead);
        rest.iter().any(|action| !matches!(action, Action::Seccomp(_)))
    }

    fn privileges(&self) -> Vec<&Action> {
        self.actions.iter().filter(|action| !action.is_setting()).collect()
    }

    fn halves(&self, ahead: &Ahead) -> (Vec<&Action>, Vec<&Action>) {
        let mut now = self.privileges();
        let last = now.len().saturating_sub(1);
        let waits = |(at, action): (usize, &&Action)| match action {
            // An agent wants to be told first; and where no privilege is needed, the filter costs nothing to leave for later.
            Action::Seccomp(filter) => {
                filter.notify || (at == last && !ahead.seen) || !filter.permits(&ahead.calls)
            }
            _ => false,
        };
        let at = now.iter().enumerate().position(waits);
        let rest = now.split_off(at.unwrap_or(now.len()));
        (now, rest)
    }

    fn take(&self, ctx: &Ctx<'_>, actions: &[&Action], handover: Option<&Handover>) -> Result<Report> {
        let mut report = Report::default();
        let filter = actions.iter().position(|action| matches!(action, Action::Seccomp(_)));
        let (open, filtered) =
            actions.split_at_checked(filter.unwrap_or(actions.len())).unwrap_or((actions, &[]));
        for action in open {
            ctx.perform(*action, |action| perform(action, &mut report))?;
        }
        // Whoever watches would be told by system calls, which the filter may refuse or ask about: tell it before.
        for action in filtered {
            ctx.perform(*action, |_| Ok(()))?;
        }
        for action in filtered {
            match action {
                Action::Seccomp(filter) => install(filter, handover)?,
                action => perform(action, &mut report)?,
            }
        }
        Ok(report)
    }
}

fn is_process_limit(action: &Action) -> bool {
    matches!(action, Action::Rlimit { resource: Resource::Nproc, .. })
}
