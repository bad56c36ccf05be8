//! `monitor graph`: the picture as text, SVG, dot or mermaid.

mod dot;
mod layout;
mod mermaid;
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
    let only: Vec<u32> =
        options.targets.iter().map(|t| session.target(t).map(|t| t.pid)).collect::<Result<_>>()?;
    let found = look(session, &only, options.all)?;
    if session.json {
        return session.print_rows(&found, &found.groups);
    }
    let drawn = match options.drawing() {
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
            let mut file = file.call(|| format!("open(\"{shown}\", O_WRONLY|O_CREAT|O_NOFOLLOW)"))?;
            if !file.metadata().is_ok_and(|m| m.is_file()) {
                return Err(Error::bad_input(shown, "not a regular file (allowed: a new or regular file)"));
            }
            file.write_all(drawn.as_bytes()).call(|| format!("write(\"{shown}\")"))?;
        }
    }
    super::notes(&found.notes);
    Ok(())
}
