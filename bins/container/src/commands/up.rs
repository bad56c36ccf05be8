//! `container up` and `container down`: a Compose file's services, started together and taken down together.

use crate::compose::project::{self, Project};
use crate::compose::service::Service;
use crate::compose::session::{self, Input, Over, Session};
use crate::compose::{file, file::File, network};
use crate::options::Options;
use drydock_bundle::Store;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Result};
use std::path::{Path, PathBuf};

const UP_HELP: &str = "\
The file is compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml of this directory; without one, a single
container runs a shell with 0.5 CPU, 100M of memory, 50M of swap and 100 processes.

In the foreground, Ctrl-C, SIGTERM or Enter brings everything down; the exit code is then 0. When all services have ended by
themselves it is the first that was not 0. A field that is not supported is refused by name.

See https://github.com/compose-spec/compose-spec for the format, and: container down --help";

const DOWN_HELP: &str = "\
Without a file the project is the one of -p, or of this directory's name. To have nothing to take down is no error.";

/// Arguments of `container up`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = UP_HELP)]
pub struct UpArgs {
    /// Compose file [default: compose.yaml here; without one, a single default container]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The project's name [default: the file's `name`, or its directory's]
    #[arg(short = 'p', long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Run in the background; print the containers
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// With -d: print the containers as JSON
    #[arg(long, requires = "detach")]
    pub json: bool,
    /// The same as -f FILE
    #[arg(value_name = "FILE", conflicts_with = "file")]
    pub path: Option<PathBuf>,
}

/// Arguments of `container down`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = DOWN_HELP)]
pub struct DownArgs {
    /// Compose file [default: compose.yaml here]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The project's name [default: the file's `name`, or its directory's]
    #[arg(short = 'p', long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Seconds between the stop signal and SIGKILL [default: each container's own]
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub time: Option<u64>,
    /// Print what was removed as JSON
    #[arg(long)]
    pub json: bool,
    /// The same as -f FILE
    #[arg(value_name = "FILE", conflicts_with = "file")]
    pub path: Option<PathBuf>,
}

/// Starts a project.
///
/// # Errors
/// Bad files, before anything is touched; what could not be started, with everything taken down again.
pub fn up(args: &UpArgs, store: &Store) -> Outcome {
    let given = args.file.clone().or_else(|| args.path.clone());
    let read = given.or_else(file::find).map(|path| File::read(&path)).transpose()?;
    let project = match &read {
        Some(file) => from_file(file, args.project_name.as_deref(), store)?,
        None => without_file(args.project_name.as_deref())?,
    };
    let mut session = Session::new(&project, store, !args.detach)?;
    for name in read.iter().flat_map(|file| file.vars.unset()) {
        let text = format!("the variable '{name}' is not set; nothing stands for it");
        drydock_cli::output::warn("container", &text);
    }
    if read.is_none() && !args.detach {
        let id = project.services.first().map(|service| service.id.to_string());
        session.announce(id, invitation(&project, session.input()));
    } else if session.input() == Input::Asks {
        session.announce(None, vec!["Press Enter to stop".into()]);
    }
    let over = session.run();
    match over {
        Ok(Over::Started) => {
            started(args, &project, store).map_err(|error| abandon(&mut session, error).into())
        }
        Ok(Over::Ended(code)) => session.down().map(|()| code).map_err(Into::into),
        Ok(Over::Asked) => session.down().map(|()| 0).map_err(Into::into),
        Err(error) => Err(abandon(&mut session, error).into()),
    }
}

/// Takes everything down; the first error is the one to report.
fn abandon(session: &mut Session<'_>, error: drydock_core::Error) -> drydock_core::Error {
    let _ = session.down();
    error
}

fn from_file(file: &File, name: Option<&str>, store: &Store) -> Result<Project> {
    let mut project = Project::read(file, name)?;
    // Before the addresses are chosen: they are taken if the project runs.
    session::check_free(&project, store)?;
    network::assign(&mut project, &crate::network::lease_dir(store.root()))?;
    Ok(project)
}

/// The guide's container: a shell that waits, with half a processor, 100M and 50M of swap, 100 processes, and a network.
fn without_file(name: Option<&str>) -> Result<Project> {
    let options = Options {
        cpus: Some("0.5".into()),
        memory: Some("100M".into()),
        swap: Some("50M".into()),
        pids: Some("100".into()),
        // Only root may add links to the host's network.
        net: nix::unistd::geteuid().is_root().then(|| "bridge".to_string()),
        // The shell waits for input as long as somebody could give some.
        interactive: true,
        ..Options::default()
    };
    let service = Service {
        name: "shell".into(),
        id: ContainerId::random(),
        options,
        command: vec!["/bin/sh".into()],
        depends_on: Vec::new(),
        networks: Vec::new(),
        gateway_names: Vec::new(),
        at: "the default container".into(),
    };
    let name = project::name(name, None, &here()?)?;
    let mut project = Project { name, services: vec![service], networks: Vec::new() };
    project.label();
    Ok(project)
}

fn invitation(project: &Project, input: Input) -> Vec<String> {
    let Some(service) = project.services.first() else { return Vec::new() };
    let stop = if input == Input::Asks { "Press Enter to stop" } else { "Press Ctrl-C to stop" };
    vec![
        format!("Container {} is running", service.id),
        format!("Enter it with: container exec -i -t {} sh", service.id),
        stop.into(),
    ]
}

fn started(args: &UpArgs, project: &Project, store: &Store) -> Result<u8> {
    if args.json {
        drydock_cli::print_json(&session::describe(&session::members(store, &project.name)?))?;
    } else {
        for service in &project.services {
            drydock_cli::print_line(service.id.as_str())?;
        }
    }
    Ok(0)
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().call(|| "getcwd()")
}

/// Takes a project down.
///
/// # Errors
/// Bad files, before anything is touched; what could not be removed.
pub fn down(args: &DownArgs, store: &Store) -> Outcome {
    let given = args.file.clone().or_else(|| args.path.clone());
    let name = match (&args.project_name, given) {
        // The name says it all: the file need not be there any more.
        (Some(name), None) => project::name(Some(name), None, Path::new("/"))?,
        (asked, given) => {
            let file = given.or_else(file::find).map(|path| File::read(&path)).transpose()?;
            let dir = file.as_ref().map_or_else(here, |file| Ok(file.dir.clone()))?;
            project::name(asked.as_deref(), file.as_ref(), &dir)?
        }
    };
    let entries = session::members(store, &name)?;
    let mut first = Ok(());
    let mut removed = Vec::new();
    for entry in &entries {
        let result = session::remove(entry, args.time, store, &mut || {});
        if result.is_ok() {
            removed.push(entry.id.to_string());
        }
        first = first.and(result);
    }
    if args.json {
        drydock_cli::print_json(&removed)?;
    } else {
        removed.iter().try_for_each(|id| drydock_cli::print_line(id))?;
    }
    first?;
    Ok(0)
}
