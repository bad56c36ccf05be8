//! `container run` of a bundle: create and start, and in the foreground the end as well.

use super::{BundleArgs, How, create, start};
use crate::commands::timings;
use crate::oci::life;
use crate::parent::{self, Streams};
use crate::plan::Plan;
use crate::watch::{Show, Watch};
use drydock_bundle::Store;
use drydock_cli::Outcome;
use drydock_core::{ContainerId, Error};
use drydock_supervise::Blocked;

/// How a bundle is run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Return once the command runs; the container is the caller's to delete.
    pub detach: bool,
    /// Keep what was made, but for the process, until it is deleted.
    pub keep: bool,
    /// systemd makes the cgroup.
    pub systemd_cgroup: bool,
    /// What is shown.
    pub show: Show,
}

/// Runs a bundle's container.
///
/// # Errors
/// As `create` and `start`.
pub fn run(
    args: &BundleArgs,
    id: &str,
    manner: Manner,
    timings: &timings::Timings,
    store: &Store,
) -> Outcome {
    super::seal(args.preserve_fds)?;
    let watch = Watch::new(manner.show);
    if !manner.detach {
        let code = foreground(args, id, manner, &watch, store)?;
        timings.report(id, &watch)?;
        return Ok(code);
    }
    let id = create::create(args, id, manner.systemd_cgroup, store, &watch)?;
    let entry = store.find_exact(id.as_str())?;
    if let Err(error) = start::start(&entry, store, &watch) {
        let _ = crate::commands::delete::delete_one(&entry, store);
        return Err(error.into());
    }
    timings.report(id.as_str(), &watch)?;
    Ok(0)
}

fn foreground(args: &BundleArgs, id: &str, manner: Manner, watch: &Watch, store: &Store) -> Outcome {
    let id = ContainerId::parse(id)?;
    let how = How { unattended: false, systemd_cgroup: manner.systemd_cgroup };
    let plan: Plan = watch.timed("bundle", || {
        let mut request = args.request(&id, how, store)?;
        request.remove = !manner.keep;
        request.validate()
    })?;
    let size = plan.outside.request.bundled.as_ref().and_then(|b| b.console_size);
    plan.warn();
    let receivers = args.connect()?;
    let signals = Blocked::all()?;
    if !args.no_subreaper {
        // Without a pid namespace, what outlives the first process is ours to reap.
        let own = rustix::process::Pid::from_raw(std::process::id().cast_signed());
        let _ = rustix::process::set_child_subreaper(own);
    }
    let mut running = parent::create(plan, store, Streams::default(), watch)?;
    let started = args.deliver(&mut running, &receivers, size).and_then(|()| running.exec(watch));
    let started = started.and_then(|()| life::poststart(&running.state));
    if let Err(error) = started {
        running.give_up(store, watch);
        return Err(error.into());
    }
    let ended = match watch.timed("command", || crate::commands::run::wait(&mut running, &signals, true)) {
        Ok(ended) => ended,
        Err(error) => {
            running.give_up(store, watch);
            return Err(error.into());
        }
    };
    if manner.keep {
        running.keep(ended)?;
        return Ok(ended.code());
    }
    let oci = running.state.oci.clone();
    running.finish(store, ended, watch)?;
    if let Some(oci) = oci {
        life::poststop(&id, &oci);
    }
    Ok(ended.code())
}

/// The one word of `run ID`, in a bundle.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for no or several words.
pub fn only_id(words: &[String]) -> Result<&str, Error> {
    match words {
        [id] => Ok(id),
        _ => Err(Error::bad_input(
            "ID",
            format!("{} words (allowed with a bundle: the container's name alone)", words.len()),
        )),
    }
}
