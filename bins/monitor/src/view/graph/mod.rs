//! `monitor graph`: the picture as text, SVG, dot or mermaid.

mod dot;
mod layout;
mod mermaid;
mod owners;
mod svg;
mod text;

use crate::Session;
use crate::args::{Drawing, GraphOptions};
use crate::model::graph::graph as look;
use drydock_cli::output::print_text;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// `monitor graph`.
///
/// # Errors
/// Unknown processes; when /proc cannot be read, or the file not be written.
pub fn graph(session: &Session, options: &GraphOptions) -> Result<()> {
    let drawing = options.drawing()?;
    let only: Vec<u32> =
        options.targets.iter().map(|t| session.target(t).map(|t| t.pid)).collect::<Result<_>>()?;
    let found = look(session, &only, options.all)?;
    if session.json {
        return session.print_rows(&found, &found.groups);
    }
    let drawn = match drawing {
        Drawing::Text => text::draw(&found),
        Drawing::Svg => svg::draw(&found),
        Drawing::Dot => dot::draw(&found),
        Drawing::Mermaid => mermaid::draw(&found),
    };
    match &options.output {
        None => print_text(&drawn)?,
        Some(path) => {
            let shown = drydock_core::text::escape(&path.display().to_string());
            // A file that is there is only replaced when it is one: not a device, not through a link.
            let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
            let file =
                OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
            let mut file = file.map_err(|e| cannot_write(&shown, e))?;
            if !file.metadata().is_ok_and(|m| m.is_file()) {
                return Err(Error::bad_input(shown, "not a regular file (allowed: a new or regular file)"));
            }
            file.write_all(drawn.as_bytes()).call(|| format!("write(\"{shown}\")"))?;
        }
    }
    super::notes(&found.notes);
    Ok(())
}

/// What is wrong with the path is the caller's mistake; what is wrong with the disk is not.
fn cannot_write(shown: &str, error: std::io::Error) -> Error {
    use std::io::ErrorKind;
    let why = match error.kind() {
        ErrorKind::NotFound => "its directory does not exist",
        ErrorKind::NotADirectory => "what should be its directory is a file",
        ErrorKind::IsADirectory => "is a directory",
        ErrorKind::PermissionDenied => "may not be written by this user",
        ErrorKind::InvalidFilename => "is too long a name",
        _ if error.raw_os_error() == Some(nix::libc::ELOOP) => "is a symbolic link",
        _ if error.raw_os_error() == Some(nix::libc::ENXIO) => "not a regular file",
        _ => return Error::call(format!("open(\"{shown}\", O_WRONLY|O_CREAT|O_NOFOLLOW)"), error),
    };
    Error::bad_input(format!("--output: {shown}"), format!("{why} (allowed: a new or regular file)"))
}
