//! The orchestrator: a container's life as an ordered list. See the arrow table in `handshake`.

use crate::child::{self, Child};
use crate::cleanup;
use crate::handshake::{Channel, Message, failed};
use crate::home::Home;
use crate::plan::{Outside, Plan};
use crate::request::Network;
pub use crate::streams::Streams;
use crate::watch::Watch;
use drydock_bundle::state::start_time;
use drydock_bundle::{Held, Life, State, Store};
use drydock_cgroups::Cgroup;
use drydock_core::error::CallExt;
use drydock_core::exit::Ended;
use drydock_core::sys::process::{self, clone_child};
use drydock_core::{Ctx, Error, Journal, Object, Result};
use drydock_namespaces::{Kind, Set, join};
use drydock_security::Handover;
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// A container whose command runs (or is about to: [`Running::exec`]).
pub struct Running {
    /// Its first process.
    pub child: process::Child,
    /// The pty's master, with `-t`.
    pub console: Option<OwnedFd>,
    /// Its state as last written.
    pub state: State,
    /// Whether its first process is PID 1 of a pid namespace of its own.
    pub is_pid_1: bool,
    dir: PathBuf,
    channel: Channel,
    held: Option<Held>,
}

/// Makes everything up to the point of no return: state, cgroup, process, network, mounts. On failure everything made is
/// taken away again, and the state is as if nothing had been tried.
///
/// # Errors
/// The stage that failed.
pub fn create(plan: Plan, store: &Store, streams: Streams, watch: &Watch) -> Result<Running> {
    let id = plan.outside.request.id.clone();
    watch.announce("state", &format!("record and journal of '{id}' in {}", store.dir(&id).display()));
    if watch.show().steps {
        drydock_core::Observer::before(watch, &plan.state_step(store.root()));
    }
    let (dir, held) = watch.timed("state", || store.create(&id))?;
    let bundled = plan.outside.request.bundled.clone();
    let command = plan.outside.request.inside.args.clone();
    let maker = Maker { store, watch, dir: dir.clone(), hooked: Cell::new(false) };
    let made = maker.make(plan, streams, held);
    if let Err(error) = &made {
        crate::told::failed(store.root(), id.as_str(), "create", &command, error);
        // The first error is the one to report; what cannot be removed now is found by gc.
        let _ = cleanup::undo(&id, &dir, store.root(), &Ctx::new(watch, None));
        let _ = cleanup::forget(store, &id);
        if let (true, Some(bundled)) = (maker.hooked.get(), &bundled) {
            crate::oci::life::poststop(&id, &bundled.state());
        }
    }
    made
}

struct Maker<'a> {
    store: &'a Store,
    watch: &'a Watch,
    dir: PathBuf,
    /// The first hooks have been called: the last are due, too.
    hooked: Cell<bool>,
}

impl Maker<'_> {
    fn make(&self, plan: Plan, streams: Streams, held: Held) -> Result<Running> {
        let mut held = Some(held);
        let Plan { outside: plan, inside } = plan;
        let mut state = crate::first::state(&plan);
        let journal = self.watch.timed("state", || {
            state.write(&self.dir)?;
            crate::commands::exec::remember(&self.dir, &plan.request)?;
            crate::told::created(&self.dir, &state);
            Journal::create(&self.dir)
        })?;
        let ctx = Ctx::new(self.watch, Some(&journal));
        self.root(&plan, &ctx)?;
        cleanup::note_shared_mounts(&plan.request, &self.dir, &journal)?;
        // A bundle brings its own.
        if plan.request.bundled.is_none() {
            plan.request.files.write(&[])?;
        }
        // systemd wants a process for its scope: there is none yet.
        let scope = plan.request.bundled.as_ref().and_then(|b| b.scope.clone());
        let cgroup = match (scope, &plan.cgroup) {
            (None, Some(stage)) => self.cgroup(stage, &mut state, &ctx)?,
            _ => None,
        };
        let security = inside.security().clone();
        let handover = security.listener().map(|_| Handover::new()).transpose()?.map(Rc::new);
        let bundled = self.bundled(&plan, handover.clone())?;
        let (channel, child) =
            self.start(inside, bundled, &plan, &mut state, cgroup.as_ref(), streams, &journal, &mut held)?;
        let mut running = Running {
            child,
            console: None,
            state,
            is_pid_1: plan.request.namespaces.new.contains(Kind::Pid),
            dir: self.dir.clone(),
            channel,
            held,
        };
        let prepared = self.prepare(&mut running, &plan, &security, handover.as_deref(), &ctx);
        if prepared.is_err() {
            // The rollback below removes the cgroup; without one the child must be ended here.
            let _ = drydock_core::sys::signal::pidfd_kill(
                std::os::fd::AsFd::as_fd(&running.child.pidfd),
                nix::libc::SIGKILL,
            );
            let _ = drydock_supervise::wait_exit(&running.child);
        }
        prepared.map(|()| running)
    }

    /// The mount points of the root; the mounts themselves are made inside, where nothing can leak.
    fn root(&self, plan: &Outside, ctx: &Ctx<'_>) -> Result<()> {
        crate::idmap::make_place(&plan.request, &self.dir, ctx)?;
        if let crate::rootfs::Source::Layered { layers, .. } = &plan.request.rootfs {
            self.watch.announce("rootfs", &format!("overlay over {}", plan.request.rootfs.path().display()));
            std::fs::create_dir(layers)
                .call(|| format!("mkdir({layers:?})"))
                .map_err(|e| e.in_stage("rootfs"))?;
        }
        Ok(())
    }

    fn cgroup(
        &self,
        stage: &drydock_cgroups::Plan,
        state: &mut State,
        ctx: &Ctx<'_>,
    ) -> Result<Option<Cgroup>> {
        self.watch.announce("cgroup", &format!("{} with its limits", stage.name()));
        let report = stage.apply(ctx)?;
        state.lacking.extend(report.lacking);
        state.cgroup = report.dirs;
        if state.cgroup.is_empty() {
            return Ok(None);
        }
        Cgroup::at(state.cgroup.iter().cloned()).map(Some)
    }

    /// The one clone: straight into the namespaces, and on v2 into the cgroup.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that the child or the way back needs")]
    fn start(
        &self,
        mut inside: drydock_init::inside::Plan,
        bundled: child::Bundled,
        plan: &Outside,
        state: &mut State,
        cgroup: Option<&Cgroup>,
        streams: Streams,
        journal: &Journal,
        held: &mut Option<Held>,
    ) -> Result<(Channel, process::Child)> {
        let namespaces = &plan.request.namespaces;
        let joined = namespaces.joined(Kind::User)?;
        inside.open_sources(joined.as_ref().map(AsFd::as_fd))?;
        drop(joined);
        self.watch.announce("clone", &plan.clone_step().call);
        let (here, there) = Channel::pair()?;
        let mut here = Some(here);
        // Who is born by a courier in another user namespace has no right to the cgroup but by open files.
        let joins_user = joins(plan, Kind::User);
        let files = match (cgroup, joins_user) {
            (Some(group), true) => group.all_join_files()?,
            (Some(group), false) => group.join_files()?,
            (None, _) => Vec::new(),
        };
        let target = cgroup.filter(|_| !joins_user).map(Cgroup::clone_target).transpose()?.flatten();
        let join = join::Request { targets: namespaces.join.clone(), skip_shared: true }.plan()?;
        // The time namespace is that of the caller's children: taken before the clone, by the courier if there is one.
        let (before, after) = join.split([Kind::Time].into_iter().collect());
        let mut home = Some(Home::remember(&namespaces.join)?);
        // The user namespace owns those that are made in it, the pid namespace takes those that are born then: first.
        let (first, after) = after.split([Kind::User, Kind::Pid].into_iter().collect());
        let joins_pid = first.joins().contains(Kind::Pid);
        let by_courier = joins_user && !joins_pid;
        let mut before = Some(before);
        if !by_courier {
            let ctx = Ctx::new(self.watch, None);
            let joined =
                before.as_ref().map(|clock| crate::oci::clock::join(clock, joins_user, &ctx)).transpose()?;
            before = before.filter(|_| joined == Some(false));
            home = home.filter(|_| before.is_none());
        }
        let show = self.watch.show();
        let clock = crate::oci::clock::set(namespaces).map_err(|e| crate::oci::told(&plan.request, e))?;
        let kinds: Set = match clock.is_apart() {
            true => namespaces.new.without(Kind::Cgroup).without(Kind::Time),
            false => namespaces.new.without(Kind::Cgroup),
        };
        let (outside, user) = match joins_pid {
            true => (Some(child::Outside::Make { first, then: before.take(), new: kinds }), None),
            false => (None, by_courier.then_some(first)),
        };
        let child = Child {
            inside,
            join: Some(after),
            cgroup: files,
            mapped: plan.request.mapped.clone(),
            outside,
            clock: clock.offsets(),
            wait_to_begin: waits(plan, show),
            channel: there,
            streams: streams.child,
            tied: true,
            bundled,
            show,
            stderr: child::keep_stderr(show),
        };
        let step = plan.clone_step();
        let started = std::time::Instant::now();
        if self.watch.show().steps {
            drydock_core::Observer::before(self.watch, &step);
        }
        // The child's copies of what shows that the parent lives: open, they would hide its death.
        let child = if let Some(user) = user {
            let enter = move || {
                let ctx = Ctx::silent();
                let clock = match before {
                    Some(clock) if crate::oci::clock::join(&clock, true, &ctx)? => None,
                    other => other,
                };
                user.apply(&ctx).map(|_| drop(user))?;
                clock.map_or(Ok(()), |clock| clock.apply(&ctx).map(drop))?;
                drydock_namespaces::credentials::become_root_inside()
            };
            let forget = || {
                self.watch.close_log();
                drop((here.take(), held.take()));
            };
            crate::courier::send(kinds.flags(), forget, enter, || child.run())
                .map_err(|e| e.in_stage("clone"))?
        } else {
            let run = || {
                self.watch.close_log();
                drop((here.take(), held.take()));
                child.run()
            };
            let kinds = if joins_pid { Set::EMPTY } else { kinds };
            let born = clone_child(kinds.flags(), target.as_ref().map(std::os::fd::AsFd::as_fd), run);
            home.map_or(Ok(()), Home::back)?;
            born.map_err(|e| drydock_namespaces::create::explain_clone(e, kinds, "clone3").in_stage("clone"))?
        };
        crate::oci::clock::back(clock)?;
        self.watch.note(|| format!("nsexec container setup: one clone3, which made process {}", child.pid));
        self.watch.count(&step, started.elapsed());
        self.watch.explain_child(child.pid, kinds.contains(Kind::Pid));
        state.pid = Some(child.pid);
        state.start_time = start_time(child.pid);
        if let Some(start_time) = state.start_time {
            journal.record(&Object::Process { pid: child.pid, start_time })?;
        }
        let here = here.ok_or_else(|| Error::failed("handshake", "the channel has gone"))?;
        if joins_pid {
            crate::heir::until_entered(&here, self.watch)?;
        }
        Ok((here, child))
    }

    /// What only a bundle has the child do.
    fn bundled(&self, plan: &Outside, handover: Option<Rc<Handover>>) -> Result<child::Bundled> {
        let request = &plan.request;
        let unattended = request.bundled.as_ref().is_some_and(|b| b.unattended);
        Ok(child::Bundled {
            hooks: request.bundled.as_ref().map(|b| b.hooks.clone()).unwrap_or_default(),
            start: unattended.then(|| crate::waiting::open(&self.dir)).transpose()?,
            handover,
        })
    }

    /// From the clone to the point of no return.
    fn prepare(
        &self,
        running: &mut Running,
        plan: &Outside,
        security: &drydock_security::Plan,
        handover: Option<&Handover>,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let namespaces = &plan.request.namespaces;
        if namespaces.new.contains(Kind::User) {
            drydock_namespaces::idmap::write_maps(
                running.child.pid,
                &namespaces.uid_map,
                &namespaces.gid_map,
                ctx,
            )?;
        }
        if namespaces.new.contains(Kind::User) || joins(plan, Kind::User) {
            security.apply_outside(ctx, running.child.pid)?;
        }
        self.of_bundle(running, plan, ctx)?;
        let waits = waits(plan, self.watch.show());
        // First when explaining: the lines do not mix. And for other programs: later they may not open its namespaces.
        let first = !self.watch.show().nothing() || matches!(plan.request.network, Network::Foreign(_));
        if first {
            self.network(running, plan, ctx)?;
        }
        if waits {
            self.watch.announce("inside", "mounts, pivot_root, host name, privileges");
            let view = crate::idmap::view(&plan.request, running.child.pid, &mut running.state.lacking)?;
            running.say_with(&Message::Begin, view)?;
        }
        if !first {
            self.network(running, plan, ctx)?;
        }
        self.watch.note(|| "child process in init(): what is done inside follows".into());
        self.hear(running, plan, security, handover, ctx)?;
        running.state.status = Life::Created;
        Ok(())
    }

    /// Listens to the child until it is ready.
    fn hear(
        &self,
        running: &mut Running,
        plan: &Outside,
        security: &drydock_security::Plan,
        handover: Option<&Handover>,
        ctx: &Ctx<'_>,
    ) -> Result<()> {
        let (files, bridged) = (&plan.request.files, matches!(plan.request.network, Network::Bridge(_)));
        loop {
            match running.channel.receive()? {
                Some((Message::Ready, _)) => return Ok(()),
                Some((Message::Born { pid }, _)) => {
                    crate::heir::adopt(&mut running.child, pid, &running.channel, security, ctx)?;
                    running.record(ctx)?;
                }
                Some((Message::Hosts, Some(copy))) if bridged => files.copy_hosts(copy.into())?,
                Some((Message::Console, Some(master))) => {
                    let unattended = plan.request.bundled.as_ref().is_some_and(|b| b.unattended);
                    if !plan.request.detach && !unattended {
                        drydock_supervise::terminal::leave_newlines(master.as_fd());
                    }
                    running.console = Some(master);
                }
                Some((Message::Step { step, took, .. }, _)) => {
                    self.watch.count(&step, Duration::from_nanos(took));
                }
                Some((Message::Mounted, _)) => self.hooks_before_pivot(running, plan)?,
                Some((Message::SeccompNotify, _)) => running.notify(security, handover)?,
                Some((Message::Failed { sentence, hint, kind, .. }, _)) => {
                    return Err(crate::oci::told(&plan.request, failed(sentence, hint, kind)));
                }
                Some(_) => {}
                None => return Err(running.died()),
            }
        }
    }

    /// What a bundle asks of its parent while the child waits: a scope of systemd's, the cgroup's owner, network
    /// devices, an RDT group.
    fn of_bundle(&self, running: &mut Running, plan: &Outside, ctx: &Ctx<'_>) -> Result<()> {
        let Some(bundled) = &plan.request.bundled else { return Ok(()) };
        let pid = running.child.pid;
        if let (Some(scope), Some(request)) = (&bundled.scope, &plan.request.cgroup) {
            let layout = drydock_cgroups::Layout::detect()?;
            let name = scope.clone().plan(layout.mode())?.start(pid, ctx)?;
            // Where systemd says that it is: the user's manager has a part of the tree only.
            let request = drydock_cgroups::Request { name, ..request.clone() };
            let there = request.validate_made(&layout)?;
            if let Some(group) = self.cgroup(&there, &mut running.state, ctx)? {
                group.add(pid)?;
            }
        }
        if let (Some(uid), false) = (bundled.cgroup_owner(&plan.request), running.state.cgroup.is_empty()) {
            Cgroup::at(running.state.cgroup.iter().cloned())?.delegate(uid, ctx)?;
        }
        plan.devices.apply(ctx, &plan.netns(pid))?;
        bundled.intel_rdt.as_ref().map_or(Ok(()), |rdt| rdt.validate(&plan.request.id)?.apply(ctx, pid))
    }

    /// The hooks of the runtime's own namespaces; then the child may carry out its own.
    fn hooks_before_pivot(&self, running: &mut Running, plan: &Outside) -> Result<()> {
        let Some(bundled) = &plan.request.bundled else { return Ok(()) };
        running.state.write(&self.dir)?;
        self.hooked.set(true);
        // The specification's lifecycle: created is "after step 2", the hooks are steps 3 to 5. crun says so, too.
        let state = crate::oci::life::json(&running.state, Life::Created).to_string();
        let env = crate::hooks::own_environment();
        let dir = Some(bundled.bundle.as_path());
        crate::hooks::run("prestart", &bundled.hooks.prestart, &state, &env, dir)?;
        crate::hooks::run("createRuntime", &bundled.hooks.create_runtime, &state, &env, dir)?;
        running.say(&Message::Hooks { state })
    }

    fn network(&self, running: &mut Running, plan: &Outside, ctx: &Ctx<'_>) -> Result<()> {
        if let Network::Foreign(foreign) = &plan.request.network {
            let made = foreign.attach(&plan.request.id, running.child.pid, self.store.root(), ctx)?;
            running.state.addresses.extend(made);
            running.state.lacking.extend(foreign.warning());
        }
        let Network::Bridge(attachment) = &plan.request.network else { return Ok(()) };
        self.watch.announce("network", &format!("veth to bridge {}, address, route, NAT", attachment.bridge));
        attachment.attach(&plan.request, running.child.pid, self.store.root(), &mut running.state, ctx)
    }
}

/// Whether the container has another's namespace of this kind.
fn joins(plan: &Outside, kind: Kind) -> bool {
    plan.request.namespaces.join.iter().any(|(joined, _)| *joined == kind)
}

/// Whether the child waits for the parent's word before it does anything.
fn waits(plan: &Outside, show: crate::watch::Show) -> bool {
    let bundled = plan.request.bundled.as_ref();
    plan.request.namespaces.new.contains(Kind::User)
        || joins(plan, Kind::User)
        || !show.nothing()
        || !plan.devices.is_empty()
        || bundled.is_some_and(|b| b.scope.is_some() || b.intel_rdt.is_some())
}

/// Listens to the first process until it has executed the command.
///
/// # Errors
/// Why it has not.
pub fn until_executed(channel: &Channel, watch: &Watch) -> Result<()> {
    loop {
        match channel.receive()? {
            None => {
                watch.note(|| "init: closing the pipe to signal completion: its socket, by execve".into());
                return Ok(());
            }
            Some((Message::Step { step, took, .. }, _)) => watch.count(&step, Duration::from_nanos(took)),
            Some((Message::Failed { sentence, hint, kind, .. }, _)) => {
                return Err(failed(sentence, hint, kind));
            }
            Some(_) => {}
        }
    }
}

impl Running {
    /// Another process than before is the first: on record before anything else happens.
    fn record(&mut self, ctx: &Ctx<'_>) -> Result<()> {
        let pid = self.child.pid;
        self.state.pid = Some(pid);
        self.state.start_time = start_time(pid);
        self.state.start_time.map_or(Ok(()), |start_time| ctx.record(&Object::Process { pid, start_time }))
    }

    fn say(&self, message: &Message) -> Result<()> {
        self.say_with(message, None)
    }

    fn say_with(&self, message: &Message, fd: Option<OwnedFd>) -> Result<()> {
        match self.channel.send_with(message, fd.as_ref().map(std::os::fd::AsFd::as_fd)) {
            // The child has said why it went; that is the error to report.
            Err(e) if e.errno() == Some(nix::libc::EPIPE) => Ok(()),
            other => other,
        }
    }

    /// The descriptor of the filter that the child is about to install, for whoever answers it.
    fn notify(&mut self, security: &drydock_security::Plan, handover: Option<&Handover>) -> Result<()> {
        let (Some(listener), Some(handover)) = (security.listener(), handover) else { return Ok(()) };
        let Some(fd) = handover.take(self.child.pidfd.as_fd())? else { return Ok(()) };
        let state = crate::oci::life::json(&self.state, Life::Creating);
        listener.send(&state, self.child.pid, fd.as_fd())
    }

    fn died(&self) -> Error {
        let how = match drydock_supervise::wait_exit(&self.child) {
            Ok(Ended::Signaled(9)) if self.oom_killed() => {
                return Error::failed(
                    "container",
                    "its first process was killed for want of memory before it could start",
                )
                .hint("give it more --memory");
            }
            Ok(Ended::Signaled(signal)) => {
                format!("was ended by {}", drydock_supervise::signals::signal_name(i32::from(signal)))
            }
            Ok(Ended::Exited(code)) => format!("ended with code {code}"),
            Err(_) => "has gone".to_string(),
        };
        Error::failed("container", format!("its first process {how} before it executed the command"))
    }

    /// The point of no return: writes the state, lets the child execute the command, and waits until it has.
    ///
    /// # Errors
    /// Why the command could not be executed (kind: exit 126 or 127).
    pub fn exec(&mut self, watch: &Watch) -> Result<()> {
        let state = crate::oci::life::json(&self.state, Life::Created).to_string();
        self.state.status = Life::Running;
        self.state.write(&self.dir)?;
        let message = if self.state.oci.is_some() { Message::Start { state } } else { Message::Exec };
        let executed = self.say(&message).and_then(|()| until_executed(&self.channel, watch));
        crate::told::start(&self.dir, &self.state, executed)
    }

    /// Leaves a created container to whoever will start it: its process no longer depends on this one, and nobody owns it.
    ///
    /// # Errors
    /// When the state cannot be written, or the child has gone.
    pub fn settle(&mut self) -> Result<()> {
        self.say(&Message::Settle)?;
        match self.channel.receive()? {
            Some((Message::Settled, _)) => {}
            Some((Message::Failed { sentence, hint, kind, .. }, _)) => {
                return Err(failed(sentence, hint, kind));
            }
            _ => return Err(self.died()),
        }
        if let Some(oci) = &mut self.state.oci {
            oci.unattended = true;
        }
        self.state.write(&self.dir)
    }

    /// Ends a container that is not to be after all: nothing of it stays.
    pub fn give_up(self, store: &Store, watch: &Watch) {
        let _ = drydock_core::sys::signal::pidfd_kill(self.child.pidfd.as_fd(), nix::libc::SIGKILL);
        let oci = self.state.oci.clone();
        let id = self.state.id.clone();
        self.abandon(store, watch);
        if let Some(oci) = oci {
            crate::oci::life::poststop(&id, &oci);
        }
    }

    /// The container's directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    fn oom_killed(&self) -> bool {
        Cgroup::at(self.state.cgroup.iter().cloned())
            .is_ok_and(|group| group.oom_kills().is_some_and(|n| n > 0))
    }

    /// The end: takes everything away and writes how it ended, or nothing at all with `--rm`.
    ///
    /// # Errors
    /// What could not be removed; gc finds it.
    pub fn finish(mut self, store: &Store, ended: Ended, watch: &Watch) -> Result<State> {
        self.ended(ended);
        if let Some(held) = &self.held {
            // With --rm there will be nothing else for `wait` to read.
            held.leave(&ended.code().to_string());
        }
        let ctx = Ctx::new(watch, None);
        cleanup::undo(&self.state.id, &self.dir, store.root(), &ctx)?;
        if self.state.remove {
            cleanup::forget(store, &self.state.id)?;
        } else {
            self.state.write(&self.dir)?;
            let journal = self.dir.join(drydock_core::journal::FILE);
            std::fs::remove_file(&journal).call(|| format!("unlink({journal:?})"))?;
        }
        Ok(self.state)
    }

    /// The end of a container that is kept: whoever wanted it so deletes it.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn keep(mut self, ended: Ended) -> Result<()> {
        self.ended(ended);
        if let Some(oci) = &mut self.state.oci {
            oci.unattended = true;
        }
        self.state.write(&self.dir)
    }

    fn ended(&mut self, ended: Ended) {
        self.state.oom_killed = self.oom_killed();
        self.state.ended = Some(ended);
        self.state.finished = Some(crate::first::now());
        self.state.status = Life::Stopped;
        crate::told::ended(&self.dir, &self.state, ended);
    }

    /// Gives up after [`Running::exec`] failed: nothing of the container stays.
    pub fn abandon(self, store: &Store, watch: &Watch) {
        let _ = drydock_supervise::wait_exit(&self.child);
        let _ = cleanup::undo(&self.state.id, &self.dir, store.root(), &Ctx::new(watch, None));
        let _ = cleanup::forget(store, &self.state.id);
    }
}
