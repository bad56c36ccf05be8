//! `container create`: a bundle's container with everything made and its command not yet executed.

use super::{BundleArgs, How};
use crate::commands::timings;
use crate::parent::{self, Streams};
use crate::plan::Plan;
use crate::watch::Watch;
use drydock_bundle::Store;
use drydock_cli::Outcome;
use drydock_core::{ContainerId, Result};

/// Arguments of `container create`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub bundle: BundleArgs,
    /// The container's name
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: timings::Timings,
}

/// Makes a container. It outlives its maker and waits for `start`; whoever made it deletes it.
///
/// # Errors
/// Bad input before anything is touched; the stage that failed, with everything taken away again.
pub fn run(args: &Args, systemd_cgroup: bool, store: &Store) -> Outcome {
    super::seal(args.bundle.preserve_fds)?;
    let watch = args.timings.watch()?;
    create(&args.bundle, &args.id, systemd_cgroup, store, &watch)?;
    args.timings.report(&args.id, &watch)?;
    Ok(0)
}

/// The whole of it, for `run --detach`, too.
///
/// # Errors
/// As [`run`].
pub fn create(
    args: &BundleArgs,
    id: &str,
    systemd_cgroup: bool,
    store: &Store,
    watch: &Watch,
) -> Result<ContainerId> {
    let id = ContainerId::parse(id)?;
    let how = How { unattended: true, systemd_cgroup };
    let plan: Plan = watch.timed("bundle", || args.request(&id, how, store)?.validate())?;
    plan.warn();
    let receivers = args.connect()?;
    let size = plan.outside.request.bundled.as_ref().and_then(|b| b.console_size);
    let mut running = parent::create(plan, store, Streams::default(), watch)?;
    let delivered = args.deliver(&mut running, &receivers, size);
    match delivered.and_then(|()| watch.timed("settle", || running.settle())) {
        Ok(()) => Ok(id),
        Err(error) => {
            running.give_up(store, watch);
            Err(error)
        }
    }
}
