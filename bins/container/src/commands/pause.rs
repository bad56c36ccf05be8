//! `container pause` and `resume`: holding all processes of a container, and letting them go on.

use crate::commands::signals;
use drydock_bundle::{Entry, Life, Store};
use drydock_cgroups::Cgroup;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};

/// Arguments of `container pause` and `container resume`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The containers
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// Freezes containers; each is frozen when this returns.
///
/// # Errors
/// Unknown, stopped or paused containers, before any is touched; one that cannot be frozen goes on as it was.
pub fn pause(args: &Args, store: &Store) -> Outcome {
    let groups = select(args, store, |entry, life| {
        if life == Life::Paused {
            return Err(Error::failed(format!("'{}'", entry.id), "is paused already")
                .hint(format!("container resume {}", entry.id)));
        }
        Ok(())
    })?;
    groups.iter().try_for_each(Cgroup::freeze)?;
    args.names.iter().for_each(|name| crate::told::asked(store, name, "pause", &[]));
    Ok(0)
}

/// Thaws containers.
///
/// # Errors
/// Unknown containers, or ones that are not paused, before any is touched.
pub fn resume(args: &Args, store: &Store) -> Outcome {
    let groups = select(args, store, |entry, life| {
        if life != Life::Paused {
            return Err(Error::failed(format!("'{}'", entry.id), format!("is {}, not paused", life.name())));
        }
        Ok(())
    })?;
    groups.iter().try_for_each(Cgroup::thaw)?;
    args.names.iter().for_each(|name| crate::told::asked(store, name, "resume", &[]));
    Ok(0)
}

/// The cgroups of the named containers, all of which live and fit.
fn select(args: &Args, store: &Store, fits: impl Fn(&Entry, Life) -> Result<()>) -> Result<Vec<Cgroup>> {
    let one = |name: &String| {
        let entry = store.find_exact(name)?;
        let (state, _) = signals::running(&entry)?;
        fits(&entry, state.life())?;
        if state.cgroup.is_empty() {
            return Err(Error::failed(format!("'{}'", entry.id), "has no cgroup to freeze")
                .hint("run as root, or in a delegated cgroup: container doctor"));
        }
        Cgroup::at(state.cgroup)
    };
    args.names.iter().map(one).collect()
}
