//! `container checkpoint`.

use super::options::Options;
use super::service::{Kind, Notice, Request};
use super::wire::Message;
use super::{INSIDE, STATE, external, find};
use crate::commands::{delete, exec, signals};
use drydock_bundle::{Life, State, Store};
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What criu tells when pages can be fetched.
const READY: &str = "status-ready";

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
    if let Some(fd) = args.status_fd {
        drydock_core::sys::fd::duplicate_inherited(fd.cast_signed()).map_err(|_| {
            Error::bad_input("--status-fd", format!("{fd} is not open (allowed: an open descriptor)"))
        })?;
    }
    let program = find()?;
    let kind = if args.pre_dump { Kind::PreDump } else { Kind::Dump };
    let (mut options, _directories) = args.options.open("dump.log", super::configuration(&state))?;
    args.fill(&mut options, &state, server)?;
    let log = args.options.work().join("dump.log");
    let request = Request { program: &program, kind, options, inherited: &[], log: &log };
    let streams = external::streams(state.pid.unwrap_or(0))?;
    let files =
        [(STATE, json(&state)?), (INSIDE, exec::remembered(&entry.dir)?), (external::STREAMS, streams)];
    let images = args.options.images();
    let write = || {
        files
            .iter()
            .try_for_each(|(name, bytes)| drydock_bundle::state::write_atomically(&images, name, bytes))
    };
    let hear = |notice: Notice| {
        // With lazy pages the other side restores while criu is still at it here.
        if notice.name == READY {
            write()?;
        }
        args.heard(&notice)
    };
    request.run(|| Ok(()), hear)?;
    if args.pre_dump {
        return Ok(0);
    }
    write()?;
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

impl Args {
    fn fill(&self, options: &mut Message, state: &State, server: Option<(String, u16)>) -> Result<()> {
        options.number(2, state.pid.unwrap_or(0));
        options.text(13, state.rootfs.as_os_str().as_bytes());
        options.flag(3, self.leave_running && !self.pre_dump);
        options.flag(46, self.tcp_skip_in_flight);
        options.flag(15, self.pre_dump || self.parent_path.is_some());
        if let Some(parent) = &self.parent_path {
            options.text(14, parent.as_os_str().as_bytes());
        }
        if let Some((address, port)) = server {
            let mut message = Message::default();
            message.text(1, address);
            message.number(2, port);
            options.message(11, &message);
        }
        // All at once, where there is a freezer for it.
        let freezers = ["freezer.state", "cgroup.freeze"];
        let freezer =
            freezers.iter().find_map(|file| state.cgroup.iter().find(|dir| dir.join(file).exists()));
        if let Some(dir) = freezer {
            options.text(44, dir.as_os_str().as_bytes());
        }
        external::leave_out(state, options)
    }

    /// Whoever gave a descriptor for it is told that pages can be fetched.
    fn heard(&self, notice: &Notice) -> Result<()> {
        match (notice.name.as_str(), self.status_fd) {
            (READY, Some(fd)) => {
                let fd = drydock_core::sys::fd::duplicate_inherited(fd.cast_signed())
                    .call(|| format!("dup({fd})"))?;
                nix::unistd::write(&fd, b"\0").map(drop).call(|| "write(--status-fd)")
            }
            _ => Ok(()),
        }
    }
}

fn address(word: &str) -> Result<(String, u16)> {
    let parsed = word.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let fits = |host: &str| !host.is_empty() && !host.chars().any(|c| c.is_control() || c.is_whitespace());
    match parsed {
        Some((host, port)) if fits(host) && port > 0 => Ok((host.to_string(), port)),
        _ => {
            let shown = text::shorten(&text::escape(word), 60);
            Err(Error::bad_input(
                "--page-server",
                format!("'{shown}' is no address with a port (allowed: ADDRESS:PORT)"),
            ))
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
