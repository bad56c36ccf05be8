//! A project that runs: started service by service, shown, and taken down in reverse.

use crate::compose::output::{Follower, Printer};
use crate::compose::project::Project;
use crate::compose::service::Service;
use crate::compose::{ORDER, PROJECT, SERVICE};
use crate::image::{self, Resolved};
use crate::options::Options;
use crate::plan::Plan;
use crate::request::Request;
use crate::watch::{Show, Watch};
use crate::{commands, supervisor};
use drydock_bundle::{Entry, Life, State, Store};
use drydock_core::{Ctx, Error, Result};
use drydock_supervise::Blocked;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::os::fd::AsFd;

/// How often logs and states are looked at, in milliseconds.
const INTERVAL: u16 = 40;

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Everything has been started, and nobody wants to watch.
    Started,
    /// Every service has ended; the first code that is not 0.
    Ended(u8),
    /// Somebody asked for the end: Ctrl-C, a signal, Enter, or an output that nobody reads.
    Asked,
}

/// A session.
pub struct Session<'a> {
    project: &'a Project,
    /// What the services' images say; `None` for those without.
    images: Vec<Option<Resolved>>,
    store: &'a Store,
    signals: Blocked,
    services: Vec<Followed>,
    printer: Option<Printer>,
    input: Input,
    first_failure: Option<u8>,
    /// Printed when everything has been started: the result, then what to do next.
    announcement: Option<(Option<String>, Vec<String>)>,
}

struct Followed {
    started: bool,
    ended: Option<u8>,
    log: Follower,
}

/// What is on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A terminal, a pipe or a socket: a line from it ends the session.
    Asks,
    /// Nothing that anybody could press Enter on.
    Silent,
}

impl Input {
    /// Looks at the caller's standard input.
    pub fn look() -> Self {
        use nix::sys::stat::{SFlag, fstat};
        let stdin = std::io::stdin();
        let kind = fstat(&stdin).map(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT);
        let pipe = matches!(kind, Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK));
        if pipe || stdin.is_terminal() { Input::Asks } else { Input::Silent }
    }
}

impl<'a> Session<'a> {
    /// Checks every service, touching nothing; from here on signals are read, not suffered.
    ///
    /// # Errors
    /// Bad input, what this machine cannot do.
    pub fn new(project: &'a Project, store: &'a Store, show: bool) -> Result<Self> {
        let explain = |service: &Service, e: Error| {
            if e.kind() == drydock_core::Kind::BadInput { service.explain(&e) } else { e }
        };
        let check = |service: &Service, options: &Options, command: &[String]| {
            let request = Request::from_options(options, command, store.root());
            request.and_then(Request::validate).map_err(|e| explain(service, e))
        };
        for service in project.services.iter().filter(|s| s.options.image.is_none()) {
            check(service, &service.options, &service.command)?;
        }
        // Images come when all else is known to be right, and before anything is started.
        let mut images = Vec::new();
        for service in &project.services {
            let of = |s: &Service| image::resolve(&s.options, &s.command, false, &Ctx::silent());
            let image = service.options.image.as_ref().map_or(Ok(None), |_| of(service));
            let image = image.map_err(|e| explain(service, e))?;
            if let Some(image) = &image {
                check(service, &image.options, &image.command)?;
            }
            images.push(image);
        }
        let names: Vec<&str> = project.services.iter().map(|s| s.name.as_str()).collect();
        let followed =
            |s: &Service| Followed { started: false, ended: None, log: Follower::new(&store.dir(&s.id)) };
        Ok(Self {
            project,
            images,
            store,
            signals: Blocked::all()?,
            services: project.services.iter().map(followed).collect(),
            printer: show.then(|| Printer::new(&names)),
            input: if show { Input::look() } else { Input::Silent },
            first_failure: None,
            announcement: None,
        })
    }

    /// A line for standard output and lines for standard error, once everything runs.
    pub fn announce(&mut self, result: Option<String>, lines: Vec<String>) {
        self.announcement = Some((result, lines));
    }

    /// Whether Enter can end it.
    pub fn input(&self) -> Input {
        self.input
    }

    /// Starts everything and watches it, until it is over.
    ///
    /// # Errors
    /// What could not be started.
    pub fn run(&mut self) -> Result<Over> {
        self.forget_stopped()?;
        let mut warned = BTreeSet::new();
        loop {
            while let Some(next) = self.next()? {
                if self.asked() {
                    return Ok(Over::Asked);
                }
                self.start(next, &mut warned)?;
            }
            if self.services.iter().all(|s| s.started) {
                if self.printer.is_none() {
                    return Ok(Over::Started);
                }
                self.say();
            }
            if self.look().is_err() {
                // Nobody reads the output any more.
                return Ok(Over::Asked);
            }
            if self.services.iter().all(|s| s.ended.is_some()) {
                return Ok(Over::Ended(self.first_failure.unwrap_or(0)));
            }
            if self.asked() || self.wait()? {
                return Ok(Over::Asked);
            }
        }
    }

    fn say(&mut self) {
        let Some((result, lines)) = self.announcement.take() else { return };
        if let Some(result) = result {
            // Should nobody read it, the first line of output will tell.
            let _ = drydock_cli::print_line(&result);
        }
        for line in lines {
            drydock_cli::output::print_error_line(&line);
        }
    }

    /// A service whose time has come.
    fn next(&self) -> Result<Option<usize>> {
        let find = |name: &str| self.project.services.iter().position(|s| s.name == name);
        let started = |name: &str| find(name).and_then(|i| self.services.get(i)).is_some_and(|s| s.started);
        let ended = |name: &str| find(name).and_then(|i| self.services.get(i)).and_then(|s| s.ended);
        for (i, (service, followed)) in self.project.services.iter().zip(&self.services).enumerate() {
            if !followed.started && service.may_start(started, ended)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    fn start(&mut self, number: usize, warned: &mut BTreeSet<String>) -> Result<()> {
        let Some(service) = self.project.services.get(number) else { return Ok(()) };
        let watch = Watch::new(Show::default());
        let (options, command) = match self.images.get(number).and_then(Option::as_ref) {
            Some(image) => (&image.options, &image.command),
            None => (&service.options, &service.command),
        };
        let plan: Plan = commands::run::plan(options, command, self.store, &watch)?;
        for lack in plan.outside.cgroup.iter().flat_map(|c| c.lacking()) {
            if warned.insert(lack.to_string()) {
                drydock_cli::output::warn("container", lack);
            }
        }
        supervisor::start(plan, self.store, watch)
            .map_err(|e| e.on(format!("service '{}'", service.name)))?;
        if let Some(followed) = self.services.get_mut(number) {
            followed.started = true;
        }
        Ok(())
    }

    /// Shows what has come, and notices who has ended.
    fn look(&mut self) -> Result<()> {
        for (i, (service, followed)) in self.project.services.iter().zip(&mut self.services).enumerate() {
            if !followed.started || followed.ended.is_some() {
                continue;
            }
            // Asked before reading: what was written before the end is still read.
            let ended = self::ended(self.store, service);
            let lines = followed.log.lines()?;
            if let Some(printer) = &mut self.printer {
                lines.iter().try_for_each(|line| printer.print(i, line))?;
            }
            followed.ended = ended;
            if let Some(code) = ended.filter(|code| *code != 0) {
                self.first_failure.get_or_insert(code);
            }
        }
        // Supervisors are children of ours.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        Ok(())
    }

    /// Has a signal come that asks for the end?
    fn asked(&self) -> bool {
        use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        self.signals.take().iter().any(|(signal, _)| [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(signal))
    }

    /// Waits a moment; true when Enter was pressed.
    fn wait(&mut self) -> Result<bool> {
        let stdin = std::io::stdin();
        let everything = self.services.iter().all(|s| s.started);
        let listens = self.input == Input::Asks && everything;
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if listens {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match nix::poll::poll(&mut fds, INTERVAL) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::call("poll(up)", e)),
        }
        if !fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false)) {
            return Ok(false);
        }
        let mut buffer = [0u8; 512];
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(n @ 1..) => Ok(buffer.get(..n).unwrap_or(&[]).contains(&b'\n')),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(false),
            // The end of the pipe, or a terminal that is not ours to read from: only signals are left.
            _ => {
                self.input = Input::Silent;
                Ok(false)
            }
        }
    }

    /// Takes down what was started, in reverse, and shows what it says meanwhile. Goes on after an error and returns the first.
    ///
    /// # Errors
    /// What could not be stopped or removed.
    pub fn down(&mut self) -> Result<()> {
        let mut first = Ok(());
        let started: Vec<usize> = (0..self.services.len()).rev().collect();
        for number in started {
            let (Some(service), Some(followed)) =
                (self.project.services.get(number), self.services.get_mut(number))
            else {
                continue;
            };
            if !followed.started {
                continue;
            }
            // Asked twice means at once.
            let hurry = self
                .signals
                .take()
                .iter()
                .any(|(signal, _)| [nix::libc::SIGINT, nix::libc::SIGTERM].contains(signal));
            let Ok(entry) = self.store.find(service.id.as_str()) else { continue };
            if entry.id != service.id {
                continue;
            }
            let log = &mut followed.log;
            let mut last = || {
                let lines = log.lines().unwrap_or_default();
                if let Some(printer) = &mut self.printer {
                    // Nobody may be reading; the rest goes down all the same.
                    let _ = lines.iter().try_for_each(|line| printer.print(number, line));
                }
            };
            first = first.and(remove(&entry, hurry.then_some(0), self.store, &mut last));
        }
        if let Some(printer) = &mut self.printer {
            printer.finish();
        }
        first
    }

    /// Records of an earlier run of this project.
    fn forget_stopped(&self) -> Result<()> {
        for service in &self.project.services {
            if let Ok(entry) = self.store.find(service.id.as_str())
                && entry.id == service.id
                && entry.life() == Some(Life::Stopped)
            {
                commands::delete::delete_one(&entry, self.store)?;
            }
        }
        Ok(())
    }
}

/// No container of these names runs, or belongs to anybody else.
///
/// # Errors
/// [`drydock_core::Kind::Failed`] naming the first that does.
pub fn check_free(project: &Project, store: &Store) -> Result<()> {
    for service in &project.services {
        let Ok(entry) = store.find(service.id.as_str()) else { continue };
        if entry.id != service.id {
            continue;
        }
        let object = format!("'{}'", entry.id);
        let ours = entry.state.as_ref().is_ok_and(|s| s.labels.get(PROJECT) == Some(&project.name));
        match entry.life() {
            Some(Life::Stopped) if ours => {}
            Some(life) if ours => {
                let problem = format!(
                    "is {} already: project '{}' is up (allowed: one that is down)",
                    life.name(),
                    project.name
                );
                return Err(
                    Error::bad_input(object, problem).hint(format!("container down -p {}", project.name))
                );
            }
            _ => {
                return Err(Error::bad_input(
                    object,
                    format!("exists and is not of project '{}'", project.name),
                )
                .hint(format!("container delete {}", entry.id)));
            }
        }
    }
    Ok(())
}

/// The exit code of a service that has ended and that its supervisor has cleaned up after.
fn ended(store: &Store, service: &Service) -> Option<u8> {
    let dir = store.dir(&service.id);
    match State::read(&dir) {
        Ok(state) if state.status == Life::Stopped => {
            Some(state.ended.map_or(125, drydock_core::exit::Ended::code))
        }
        // Its supervisor was killed, and the container with it.
        Ok(state) if state.life() == Life::Stopped => match store.try_own(&service.id) {
            Ok(Some(_)) => Some(
                State::read(&dir).ok().and_then(|s| s.ended).map_or(137, drydock_core::exit::Ended::code),
            ),
            _ => None,
        },
        Ok(_) => None,
        // Somebody deleted it.
        Err(_) if !dir.exists() => Some(137),
        Err(_) => None,
    }
}

/// Stops a container and removes it with everything that it has. `last` is called between, when it has said its last word.
///
/// # Errors
/// What could not be removed.
pub fn remove(entry: &Entry, seconds: Option<u64>, store: &Store, last: &mut dyn FnMut()) -> Result<()> {
    // Whatever keeps it from stopping, deleting kills it.
    let _ = commands::signals::stop_one(entry, seconds, store);
    last();
    match store.find(entry.id.as_str()) {
        Ok(now) if now.id == entry.id => commands::delete::delete_one(&now, store),
        _ => Ok(()),
    }
}

/// The containers of a project, the last started first.
///
/// # Errors
/// When the state root cannot be read.
pub fn members(store: &Store, project: &str) -> Result<Vec<Entry>> {
    let label = |entry: &Entry, key: &str| entry.state.as_ref().ok().and_then(|s| s.labels.get(key).cloned());
    let mut entries = store.entries()?;
    entries.retain(|entry| label(entry, PROJECT).as_deref() == Some(project));
    let order =
        |entry: &Entry| label(entry, ORDER).and_then(|n| n.parse::<usize>().ok()).unwrap_or(usize::MAX);
    entries.sort_by_key(|entry| std::cmp::Reverse(order(entry)));
    Ok(entries)
}

/// What `--json` says of the containers of a project.
pub fn describe(entries: &[Entry]) -> Vec<serde_json::Value> {
    let states = entries.iter().rev().filter_map(|entry| entry.state.as_ref().ok());
    let line = |s: &State| serde_json::json!({ "service": s.labels.get(SERVICE), "id": s.id, "pid": s.pid, "addresses": s.addresses, "ports": s.ports });
    states.map(line).collect()
}
