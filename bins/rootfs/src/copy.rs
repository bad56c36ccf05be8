//! `rootfs copy` and `rootfs closure`: programs with all that they need.

use crate::{Telling, absolute};
use drydock_cli::Outcome;
use drydock_core::Error;
use drydock_images::copy::Request;
use drydock_images::elf::{Loader, Missing};
use drydock_images::view::View;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Copy programs into a root, with their interpreter and libraries, at the same paths as on the host. Nothing is run
/// (ldd(1) runs what it looks at); links are kept as they are; set-user-ID bits are not copied.
#[derive(clap::Args)]
#[command(after_help = "Example: rootfs new R && rootfs copy R /bin/bash /bin/ls /bin/ps && rootfs check R
See ld.so(8) for how libraries are found, elf(5) for what is read.")]
pub struct Args {
    /// The root directory, made by `rootfs new`.
    dir: PathBuf,
    /// Programs: paths, or names in /usr/bin, /bin, /usr/sbin, …
    #[arg(value_name = "BIN", required_unless_present = "with")]
    programs: Vec<PathBuf>,
    /// A further file or directory (repeatable); a library comes with what it needs.
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    #[command(flatten)]
    telling: Telling,
}

pub fn run(args: &Args) -> Outcome {
    let paths = |list: &[PathBuf], names| -> Result<Vec<PathBuf>, Error> {
        list.iter().map(|path| absolute(path, names)).collect()
    };
    let request = Request {
        root: args.dir.clone(),
        programs: paths(&args.programs, true)?,
        with: paths(&args.with, false)?,
    };
    crate::apply(&request.plan()?, args.telling)?;
    Ok(0)
}

/// Print the files that a program needs to run, without running it: ldd(1), but safe, and with the interpreter.
#[derive(clap::Args)]
pub struct ClosureArgs {
    /// A program: its path or name.
    #[arg(value_name = "BIN")]
    program: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A closure for people and machines.
#[derive(Serialize)]
struct Shown {
    files: Vec<PathBuf>,
    optional: Vec<PathBuf>,
    missing: Vec<Missing>,
}

pub fn closure(args: &ClosureArgs) -> Outcome {
    let host = View::host()?;
    let loader = Loader::new(&host);
    let asked = absolute(&args.program, true)?;
    let path = if asked.is_absolute() { Some(asked.clone()) } else { loader.program(asked.as_os_str()) };
    let path = path.filter(|path: &PathBuf| Path::new(path).exists()).ok_or_else(|| {
        let shown = drydock_core::text::escape(&args.program.to_string_lossy());
        Error::bad_input(
            format!("'{shown}'"),
            "no such program (allowed: a path, or a name in /usr/bin, /bin, …)",
        )
    })?;
    let closure = loader.closure(&path)?;
    let incomplete = !closure.missing.is_empty();
    if args.json {
        let shown = Shown { files: closure.files, optional: closure.extra, missing: closure.missing };
        drydock_cli::print_json(&shown)?;
        return Ok(u8::from(incomplete));
    }
    for file in &closure.files {
        drydock_cli::print_line(&file.to_string_lossy())?;
    }
    for missing in &closure.missing {
        drydock_cli::output::warn(
            "rootfs",
            &format!("{}: missing {}", missing.object.display(), missing.need),
        );
    }
    Ok(u8::from(incomplete))
}
