//! The verbs of `container`: one table, in the order of its help. Only the verb that was asked for builds its options:
//! building those of all costs more time and memory than a container's start should.

use crate::commands;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use drydock_bundle::Store;
use drydock_cli::Outcome;
use drydock_core::{Error, Result, text};
use std::path::PathBuf;

/// What was said before the verb, as far as verbs need it.
#[derive(Debug)]
pub struct Caller {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// Called by the name of runc.
    pub strict: bool,
}

impl Caller {
    /// What `list` lists. runc refuses a root that is not there, unless it is its own.
    fn listed(&self) -> Result<Store> {
        if let Some(root) = self.root.as_deref().filter(|root| self.strict && !root.exists()) {
            let problem = format!("'{}': no such file or directory", text::escape(&root.to_string_lossy()));
            return Err(Error::failed("--root", problem));
        }
        self.store()
    }

    /// `doctor` and `unshare` work where no store can be; the command of `unshare` keeps the caller's umask.
    fn store(&self) -> Result<Store> {
        // What containers are made of has the modes that it needs, not those that the caller's umask leaves; a container's
        // command starts with this one, too.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let store = commands::run::store(self.root.as_deref())?;
        store.check().map(|()| store)
    }
}

/// A line of the table.
struct Entry {
    name: &'static str,
    about: &'static str,
    alias: Option<&'static str>,
    options: fn(Command) -> Command,
    run: fn(&ArgMatches, &Caller) -> Outcome,
}

/// A verb with its arguments as they were given.
pub struct Verb {
    entry: &'static Entry,
    matches: ArgMatches,
}

impl Verb {
    /// As the help has it.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// Carries it out.
    ///
    /// # Errors
    /// The verb's.
    pub fn run(&self, caller: &Caller) -> Outcome {
        (self.entry.run)(&self.matches, caller)
    }
}

macro_rules! verbs {
    ($($name:literal $(or $alias:literal)?: $about:literal, $type:ty, |$args:ident, $caller:pat_param| $run:expr;)*) => {
        const VERBS: &[Entry] = &[$(Entry {
            name: $name,
            about: $about,
            alias: [$(Some($alias),)? None][0],
            options: options::<$type>,
            run: |matches, $caller| {
                let $args = <$type>::from_arg_matches(matches)?;
                $run
            },
        },)*];
    };
}

verbs! {
    "run": "Make a container and run a command in it", commands::run::Args,
        |args, caller| commands::run::run(&args, caller.systemd_cgroup, &caller.store()?);
    "create": "Make a bundle's container, up to its command [OCI]", commands::oci::create::Args,
        |args, caller| commands::oci::create::run(&args, caller.systemd_cgroup, &caller.store()?);
    "start": "Execute the command of a created container [OCI]", commands::oci::start::Args,
        |args, caller| commands::oci::start::run(&args, &caller.store()?);
    "state": "Print a container's state [OCI]", commands::oci::state::Args,
        |args, caller| commands::oci::state::run(&args, &caller.store()?);
    "spec": "Write a config.json to begin a bundle with", commands::oci::spec::Args,
        |args, _| commands::oci::spec::run(&args);
    "features": "Print what of the OCI runtime specification is known here, as JSON", commands::oci::features::Args,
        |args, _| commands::oci::features::run(&args);
    "plan": "Print what `run` with the same options would do; touch nothing", commands::plan::Args,
        |args, caller| commands::plan::run(&args, &caller.store()?);
    "exec": "Run a command in a running container", commands::exec::Args,
        |args, caller| commands::exec::run(&args, &caller.store()?);
    "checkpoint": "Write a bundle's container, with its processes, into files (criu(8))",
        commands::criu::checkpoint::Args,
        |args, caller| commands::criu::checkpoint::run(&args, &caller.store()?);
    "restore": "Bring a container back from the files of a checkpoint", commands::criu::restore::Args,
        |args, caller| commands::criu::restore::run(&args, &caller.store()?);
    "list" or "ls": "List containers", commands::list::Args,
        |args, caller| commands::list::run(&args, &caller.listed()?);
    "ps": "Show the processes of a container", commands::processes::Args,
        |args, caller| commands::processes::run(&args, &caller.store()?);
    "inspect": "Show everything known of a container, as JSON", commands::show::OneArgs,
        |args, caller| commands::show::inspect(&args, &caller.store()?);
    "stats": "Show what containers use", commands::show::StatsArgs,
        |args, caller| commands::show::stats(&args, &caller.store()?);
    "logs": "Print what a detached container wrote", commands::show::LogsArgs,
        |args, caller| commands::show::logs(&args, &caller.store()?);
    "attach": "Show a detached container's output and pass input on", commands::show::AttachArgs,
        |args, caller| commands::show::attach(&args, &caller.store()?);
    "pause": "Freeze all processes of containers", commands::pause::Args,
        |args, caller| commands::pause::pause(&args, &caller.store()?);
    "resume": "Let paused containers go on", commands::pause::Args,
        |args, caller| commands::pause::resume(&args, &caller.store()?);
    "update": "Change the limits of a running container", commands::update::Args,
        |args, caller| commands::update::run(&args, &caller.store()?);
    "events": "Follow what happens to containers; or what one uses, and when its memory runs out", commands::events::Args,
        |args, caller| commands::events::run(&args, &caller.store()?);
    "why": "Say why a container ended, failed, or could not be made: evidence and fix", commands::why::Args,
        |args, caller| commands::why::run(&args, &caller.store()?);
    "audit": "Check a running container against ten best practices, and what it can still reach", commands::audit::Args,
        |args, caller| commands::audit::run(&args, &caller.store()?);
    "stop": "Stop containers: their stop signal, then SIGKILL", commands::signals::StopArgs,
        |args, caller| commands::signals::stop(&args, &caller.store()?);
    "kill": "Send a signal to a container", commands::signals::KillArgs,
        |args, caller| commands::signals::kill(&args, &caller.store()?);
    "wait": "Wait for a container's end and print its exit code", commands::signals::WaitArgs,
        |args, caller| commands::signals::wait(&args, &caller.store()?);
    "delete" or "rm": "Delete containers", commands::delete::DeleteArgs,
        |args, caller| commands::delete::delete(&args, &caller.store()?);
    "gc": "Remove what is left of containers whose owner was killed", commands::delete::GcArgs,
        |args, caller| commands::delete::gc(&args, &caller.store()?);
    "up": "Start the services of a Compose file, with their networks", commands::up::UpArgs,
        |args, caller| commands::up::up(&args, &caller.store()?);
    "down": "Stop and remove the services of a Compose file, with their networks", commands::up::DownArgs,
        |args, caller| commands::up::down(&args, &caller.store()?);
    "doctor": "Probe, by doing, what this machine can do", commands::doctor::Args,
        |args, caller| commands::doctor::run(&args, caller.root.as_deref());
    "unshare": "Run a command in new namespaces, as unshare(1)", commands::unshare::Args,
        |args, _| commands::unshare::run(args);
    "ns": "List or remove namespaces that were kept (unshare --net=FILE)", commands::ns::Args,
        |args, _| commands::ns::run(&args);
    "demo": "Show one container pass through every stage, and that nothing is left", commands::demo::Args,
        |args, caller| commands::demo::run(&args, &caller.store()?);
}

/// A verb's own options, when they are needed. What the verb is about stays as the table says it.
fn options<A: Args>(command: Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    A::augment_args(command).about(about).long_about(None)
}

impl Verb {
    fn from_matches(matches: &mut ArgMatches) -> std::result::Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.remove_subcommand().ok_or_else(missing)?;
        let entry = find(std::ffi::OsStr::new(&name)).ok_or_else(missing)?;
        Ok(Self { entry, matches })
    }
}

/// A whole command line: what stands before the verb, and the verb.
pub struct Asked<G> {
    /// The options for all verbs.
    pub globals: G,
    /// The verb.
    pub verb: Verb,
}

impl<G: FromArgMatches> FromArgMatches for Asked<G> {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> std::result::Result<Self, clap::Error> {
        Ok(Self { globals: G::from_arg_matches_mut(matches)?, verb: Verb::from_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn find(name: &std::ffi::OsStr) -> Option<&'static Entry> {
    VERBS.iter().find(|entry| name == entry.name || entry.alias.is_some_and(|alias| name == alias))
}

/// Adds the verb that was asked for, or all of them where that is none.
pub fn add(command: Command, asked: Option<&std::ffi::OsStr>) -> Command {
    match asked.and_then(find) {
        Some(entry) => command.subcommand(subcommand(entry)),
        None => command.subcommands(VERBS.iter().map(subcommand)),
    }
}

fn subcommand(entry: &'static Entry) -> Command {
    let verb = Command::new(entry.name).about(entry.about);
    // Its own --root must be there when the global one is handed down: that one then is not.
    let verb = match entry.name {
        // With unshare(1)'s -V.
        "unshare" => (entry.options)(verb).version(crate::VERSION),
        _ => verb.defer(entry.options),
    };
    match entry.alias {
        Some(alias) => verb.visible_alias(alias),
        None => verb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_keeps_what_it_is_about() {
        let mut command = crate::command();
        command.build();
        for entry in VERBS {
            let verb = command.find_subcommand(entry.name).unwrap();
            assert_eq!(verb.get_about().unwrap().to_string(), entry.about);
            assert!(verb.get_long_about().is_none(), "{}", entry.name);
            assert!(entry.name == "features" || verb.get_arguments().count() > 1, "{}", entry.name);
        }
    }
}
