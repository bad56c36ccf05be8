//! `rootfs copy` and `rootfs closure`: programs with all that they need.

use crate::{Telling, absolute};
use drydock_cli::Outcome;
use drydock_core::Error;
use drydock_images::copy::Request;
use drydock_images::elf::{Hint, Loader, Missing, What};
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
    /// Also the name service of this host: /etc/nsswitch.conf and the modules (libnss_*) that it names.
    #[arg(long)]
    nss: bool,
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
        name_service: args.nss,
    };
    let report = crate::apply(&request.plan()?, args.telling)?;
    if !args.telling.json {
        tell(&report.hints, args.nss);
    }
    Ok(0)
}

/// What no header says, in at most one line for each kind.
fn tell(hints: &[Hint], nss: bool) {
    // A library that opens others by a name that nobody can see is nothing that the caller could do something about.
    let library = |h: &Hint| h.object.to_string_lossy().contains(".so");
    let of = |what: What| -> Vec<&Hint> {
        hints.iter().filter(|h| h.what == what && (!library(h) || !h.libraries.is_empty())).collect()
    };
    let who = |hints: &[&Hint]| {
        let names =
            hints.iter().filter_map(|h| h.object.file_name()).map(|n| n.to_string_lossy().into_owned());
        let names: Vec<String> = names.collect();
        match names.as_slice() {
            [a, b, c, _, ..] => format!("{a}, {b}, {c} and {} more", names.len() - 3),
            few => few.join(", "),
        }
    };
    let note = |text: &str| drydock_cli::output::note("rootfs", text);
    let names = of(What::NameService);
    if !names.is_empty() && !nss {
        note(&format!(
            "{}: users, groups or hosts are looked up (nsswitch.conf(5)); files and dns work, other modules (libnss_*) come with --nss",
            who(&names)
        ));
    }
    let opens = of(What::Dlopen);
    if !opens.is_empty() {
        let with: Vec<String> =
            opens.iter().flat_map(|h| &h.libraries).map(|p| format!(" --with {}", p.display())).collect();
        let names = if with.is_empty() {
            "such libraries come with --with FILE".to_string()
        } else {
            format!("perhaps{}", with.concat())
        };
        note(&format!("{}: libraries are opened by name at run time (dlopen(3)): {names}", who(&opens)));
    }
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
    hints: Vec<Hint>,
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
        let shown = Shown {
            files: closure.files,
            optional: closure.extra,
            missing: closure.missing,
            hints: closure.hints,
        };
        drydock_cli::print_json(&shown)?;
        return Ok(u8::from(incomplete));
    }
    for file in &closure.files {
        drydock_cli::print_line(&file.to_string_lossy())?;
    }
    tell(&closure.hints, false);
    for missing in &closure.missing {
        drydock_cli::output::warn(
            "rootfs",
            &format!("{}: missing {}", missing.object.display(), missing.need),
        );
    }
    Ok(u8::from(incomplete))
}
