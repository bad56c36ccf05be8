//! `container checkpoint`.

use super::options::Options;
use super::{INSIDE, STATE, directory, find};
use crate::commands::{delete, exec, signals};
use drydock_bundle::{Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::{Error, Result, text};
use std::path::{Path, PathBuf};

/// Arguments of `container checkpoint`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub options: Options,
    /// Images of an earlier --pre-dump, relative to those of now
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// The container goes on afterwards
    #[arg(long)]
    pub leave_running: bool,
    /// Leave out TCP connections that are being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Only the memory, and the container goes on: so that the next checkpoint is short
    #[arg(long)]
    pub pre_dump: bool,
    /// Send the memory to `criu page-server` there
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// With --lazy-pages: criu writes a NUL to this descriptor when it is ready to serve pages
    #[arg(long, value_name = "FD", requires = "lazy_pages")]
    pub status_fd: Option<u32>,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Writes a container's processes into files. Unless it is told to leave it running, the container is deleted.
///
/// # Errors
/// No such container, one that does not run, one that is not a bundle's; no criu; what criu says.
pub fn run(args: &Args, store: &Store) -> Outcome {
    let server = args.page_server.as_deref().map(address).transpose()?;
    args.parent_path.as_deref().map_or(Ok(()), |dir| earlier(&args.options.images(), dir))?;
    let entry = store.find_exact(&args.id)?;
    let (state, _pidfd) = signals::running(&entry)?;
    if state.oci.is_none() {
        return Err(Error::failed(
            format!("'{}'", entry.id),
            "is not a bundle's container: its root file system ends with its processes",
        )
        .hint("container create --bundle, or run --bundle")
        .into());
    }
    if state.life() != Life::Running && state.life() != Life::Paused {
        let problem = format!("is {}: there is nothing to checkpoint yet", state.life().name());
        return Err(Error::failed(format!("'{}'", entry.id), problem).into());
    }
    let program = find()?;
    let options = &args.options;
    directory("--image-path", &options.images())?;
    directory("--work-path", &options.work())?;
    super::run(&program, words(args, &state, server), &options.work().join("dump.log"), || Ok(()))?;
    if args.pre_dump {
        return Ok(0);
    }
    drydock_bundle::state::write_atomically(&options.images(), STATE, &json(&state)?)?;
    let inside = exec::remembered(&entry.dir)?;
    drydock_bundle::state::write_atomically(&options.images(), INSIDE, &inside)?;
    if !args.leave_running {
        delete::delete_one(&entry, store)?;
    }
    Ok(0)
}

/// Where the images of an earlier --pre-dump are: criu follows a link to them, from the images of now.
fn earlier(images: &Path, dir: &Path) -> Result<()> {
    let bad = |problem: &str| {
        let shown = text::shorten(&text::escape(&dir.to_string_lossy()), 200);
        let allowed = "allowed: a directory of images, by its path from --image-path";
        Err(Error::bad_input("--parent-path", format!("'{shown}' {problem} ({allowed})")))
    };
    if dir.is_absolute() {
        return bad("is absolute");
    }
    // That of --image-path is made only later: its parent's `..` is the same without it.
    let place = if images.is_dir() { images.join(dir) } else { without_parents(images, dir) };
    if place.is_dir() { Ok(()) } else { bad("is no directory there") }
}

/// A path from a directory that is not there yet, without the kernel's help.
fn without_parents(from: &Path, path: &Path) -> PathBuf {
    path.components().fold(from.to_path_buf(), |mut place, part| {
        if part == std::path::Component::ParentDir {
            place.pop();
        } else {
            place.push(part);
        }
        place
    })
}

fn json(state: &State) -> Result<Vec<u8>> {
    serde_json::to_vec(state).map_err(|e| Error::failed("state", e.to_string()))
}

fn words(args: &Args, state: &State, server: Option<(String, u16)>) -> Vec<String> {
    let mut words = vec![if args.pre_dump { "pre-dump" } else { "dump" }.to_string()];
    words.push(format!("--tree={}", state.pid.unwrap_or(0)));
    words.push(format!("--root={}", state.rootfs.display()));
    words.extend(args.options.words("dump.log"));
    let freezer = state.cgroup.iter().find(|dir| dir.join("freezer.state").exists());
    words.extend(freezer.map(|dir| format!("--freeze-cgroup={}", dir.display())));
    words.extend(args.parent_path.as_ref().map(|dir| format!("--prev-images-dir={}", dir.display())));
    words.extend(args.status_fd.map(|fd| format!("--status-fd={fd}")));
    if let Some((address, port)) = server {
        words.extend(["--page-server".into(), format!("--address={address}"), format!("--port={port}")]);
    }
    let flags = [
        (args.pre_dump || args.parent_path.is_some(), "--track-mem"),
        (args.leave_running && !args.pre_dump, "--leave-running"),
        (args.tcp_skip_in_flight, "--skip-in-flight"),
    ];
    words.extend(flags.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_string()));
    words
}

fn address(word: &str) -> Result<(String, u16)> {
    let parsed = word.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let fits = |host: &str| !host.is_empty() && !host.chars().any(|c| c.is_control() || c.is_whitespace());
    match parsed {
        Some((host, port)) if fits(host) && port > 0 => Ok((host.to_string(), port)),
        _ => {
            let shown = text::shorten(&text::escape(word), 60);
            Err(Error::bad_input("--page-server", format!("'{shown}' (allowed: ADDRESS:PORT)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn page_servers() {
        assert_eq!(address("10.0.0.1:90").unwrap(), ("10.0.0.1".to_string(), 90));
        assert_eq!(address("::1:90").unwrap(), ("::1".to_string(), 90));
        for bad in ["", "host", ":1", "h:0", "h:65536", "a b:1"] {
            assert_eq!(address(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
