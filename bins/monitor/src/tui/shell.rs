//! A shell in the selected container: by `container exec` for ours, by `joinns` for those of other engines. Both give it a
//! terminal of its own and the container's privileges, not ours. They are looked for beside this program.

use super::terminal::{Event, Terminal};
use crate::Session;
use crate::model::sampler::Row;
use drydock_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the tools may be, when not beside this program.
const PLACES: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// A program with its arguments, not yet started.
pub fn command(session: &Session, row: &Row) -> Result<Command> {
    if let Some(name) = &row.container {
        let mut command = Command::new(tool("container")?);
        if let Some(root) = &session.root {
            command.arg("--root").arg(root);
        }
        command.args(["exec", "-i", "-t", "--", name, "sh"]);
        return Ok(command);
    }
    match row.pid.filter(|_| row.is_container) {
        Some(pid) => {
            let mut command = Command::new(tool("joinns")?);
            command.args(["-t", &pid.to_string(), "-a", "--", "sh"]);
            Ok(command)
        }
        None => Err(Error::bad_input(row.name.clone(), "is no container (e is for a shell in one)")),
    }
}

fn tool(name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf()));
    let places = beside.into_iter().chain(PLACES.iter().map(PathBuf::from));
    let found = places.map(|dir| dir.join(name)).find(|path| path.is_file());
    let all = PLACES.join(" or in ");
    found.ok_or_else(|| Error::failed(name, format!("is not beside monitor, nor in {all}")))
}

/// Runs it on the terminal, which is as before meanwhile and taken over again afterwards. What it complained of stays until a
/// key is pressed.
///
/// # Errors
/// As [`Terminal::give`].
pub fn run(terminal: &mut Terminal, mut command: Command) -> Result<Option<Event>> {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    terminal.give()?;
    let problem = match command.status() {
        // The shell's own codes, or those of the tool: they look alike, so what stands on the screen may be wanted.
        Ok(status) => match status.code() {
            Some(2 | 125..=127) => Some(format!("{program} ended with {}", status.code().unwrap_or(0))),
            _ => None,
        },
        Err(error) => Some(format!("{program}: {error}")),
    };
    if let Some(problem) = problem {
        drydock_cli::print_text(&format!(
            "monitor: {}; Enter goes back to top\n",
            drydock_core::text::escape(&problem)
        ))?;
        if let Some(end) = terminal.until_key()? {
            return Ok(Some(end));
        }
    }
    terminal.take_back()
}
