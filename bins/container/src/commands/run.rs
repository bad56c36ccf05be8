//! `container run`: make a container, run a command in it, wait, take everything away again.

use crate::commands::oci::{self, BundleArgs};
use crate::commands::timings;
use crate::image;
use crate::options::Options;
use crate::parent::{self, Running, Streams};
use crate::plan::Plan;
use crate::request::Request;
use crate::session;
use crate::watch::{Show, Watch};
use drydock_bundle::{State, Store};
use drydock_cli::Outcome;
use drydock_core::{Result, paths};
use drydock_supervise::Blocked;
use drydock_supervise::exec::utf8_words;
use serde_json::json;
use std::ffi::OsString;

/// Arguments of `container run`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub options: Options,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub bundle: BundleArgs,
    /// Keep a bundle's container when it has ended, its cgroup as well, until it is deleted
    #[arg(long, help_heading = "OCI bundle")]
    pub keep: bool,
    /// Print each step before it is done: stage, system call, why
    #[arg(long, help_heading = "Output")]
    pub explain: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timings: timings::Timings,
    /// Report as JSON (on standard error, or with -d on standard output)
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// The command and its arguments [default: /bin/sh]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl Args {
    /// Whether this is `run ID` of a bundle rather than `run COMMAND`: something says so that only a bundle can mean, or
    /// there is one right here and a single word, as runc(8) is used.
    fn of_bundle(&self, command: &[String]) -> bool {
        let here = || {
            let plain = Options { detach: self.options.detach, ..Options::default() };
            open_ended()
                && command.len() == 1
                && serde_json::to_value(&self.options).ok() == serde_json::to_value(&plain).ok()
                && std::path::Path::new(drydock_bundle::config::FILE).is_file()
        };
        self.keep || self.bundle.any() || here()
    }

    /// Options of a bundle that stand behind the container's name count as if they stood before it.
    fn with_options_behind(&self, command: &mut Vec<String>) -> Args {
        let mut args = self.clone();
        if open_ended()
            && let Some(after) = oci::after::options(command, &self.bundle)
        {
            command.truncate(1);
            let (bundle, detach, keep) = after.join(args.bundle);
            args.bundle = BundleArgs { bundle: bundle.bundle.clone().or(Some(".".into())), ..bundle };
            args.options.detach |= detach;
            args.keep |= keep;
        }
        args
    }
}

/// Whether it is left to us where options end: there is no `--`.
pub(crate) fn open_ended() -> bool {
    !std::env::args_os().any(|word| word == "--")
}

/// Runs a container; the exit code is the command's.
///
/// # Errors
/// Bad input before anything is touched; the stage that failed, with everything taken away again.
pub fn run(args: &Args, systemd_cgroup: bool, store: &Store) -> Outcome {
    let mut command = utf8_words("command", args.command.iter().map(OsString::as_os_str))?;
    let args = &args.with_options_behind(&mut command);
    let timings = args.timings.timings.is_some() || args.json;
    let show = Show { steps: args.explain, timings, ..Show::default() };
    args.timings.check()?;
    if args.of_bundle(&command) {
        let (detach, keep) = (args.options.detach, args.keep);
        let manner = oci::run::Manner { detach, keep, systemd_cgroup, show };
        return oci::run::run(&args.bundle, oci::run::only_id(&command)?, manner, &args.timings, store);
    }
    let watch = Watch::new(show);
    let resolved =
        image::resolve(&args.options, &command, open_ended(), &drydock_core::Ctx::new(&watch, None))?;
    let (options, command) = match &resolved {
        Some(resolved) => (&resolved.options, &resolved.command),
        None => (&args.options, &command),
    };
    let plan = plan(options, command, store, &watch)?;
    for lack in plan.outside.cgroup.iter().flat_map(|c| c.lacking()) {
        drydock_cli::output::warn("container", lack);
    }
    if args.options.detach {
        return Ok(crate::supervisor::detach(plan, store, watch, args.json)?);
    }
    let (state, watch) = foreground(plan, store, watch)?;
    report(args, &state, &watch)?;
    Ok(state.ended.map_or(0, drydock_core::exit::Ended::code))
}

/// The plan of these options, with the default root file system built if it is needed.
///
/// # Errors
/// Bad input, before anything is touched.
pub fn plan(options: &Options, command: &[String], store: &Store, watch: &Watch) -> Result<Plan> {
    let request = Request::from_options(options, command, store.root())?;
    // Checked before the default root is built: bad input must leave no trace.
    let checked = request.clone().validate()?;
    if request.rootfs.path().is_dir() {
        return Ok(checked);
    }
    match request.rootfs.ensure(&drydock_core::Ctx::new(watch, None))? {
        Some(lower) if lower != request.rootfs.path() => request.with_lower(lower).validate(),
        _ => Ok(checked),
    }
}

/// Runs in the foreground with the caller's streams.
///
/// # Errors
/// The stage that failed, or why the command could not be executed.
pub fn foreground(plan: Plan, store: &Store, watch: Watch) -> Result<(State, Watch)> {
    let interactive = plan.outside.request.interactive;
    let terminal = plan.outside.request.inside.terminal;
    let signals = Blocked::all()?;
    let streams = Streams { child: [session::standard_input(interactive || terminal)?, None, None] };
    let mut running = parent::create(plan, store, streams, &watch)?;
    if let Err(error) = running.exec(&watch) {
        running.abandon(store, &watch);
        return Err(error);
    }
    let ended = match watch.timed("command", || wait(&mut running, &signals, interactive)) {
        Ok(ended) => ended,
        Err(error) => {
            running.give_up(store, &watch);
            return Err(error);
        }
    };
    watch.explain_end(running.child.pid, ended);
    let state = running.finish(store, ended, &watch)?;
    Ok((state, watch))
}

/// Waits for the end of a container in the foreground.
///
/// # Errors
/// poll(2)'s and waitid(2)'s.
pub fn wait(
    running: &mut Running,
    signals: &Blocked,
    interactive: bool,
) -> Result<drydock_core::exit::Ended> {
    match running.console.take() {
        Some(master) => session::relay(&running.child, running.is_pid_1, signals, &master, interactive),
        None => drydock_supervise::Supervised::new(&running.child, running.is_pid_1).wait(signals),
    }
}

/// `--timings` and `--json`.
fn report(args: &Args, state: &State, watch: &Watch) -> Result<()> {
    let stages = watch.stages();
    let total = watch.elapsed();
    if args.json {
        let report = json!({
            "id": state.id,
            "exit_code": state.ended.map(drydock_core::exit::Ended::code),
            "oom_killed": state.oom_killed,
            "addresses": state.addresses,
            "lacking": state.lacking,
            "stages": crate::watch::rows(&stages, total),
            "total_us": u64::try_from(total.as_micros()).unwrap_or(u64::MAX),
        });
        drydock_cli::output::print_error_line(&report.to_string());
    }
    args.timings.report(state.id.as_str(), watch)
}

/// The store of `--root`, `DRYDOCK_ROOT`, or the default place.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a relative path.
pub fn store(root: Option<&std::path::Path>) -> Result<Store> {
    paths::state_root(root).map(Store::at)
}
