//! `rootfs`: builds, checks, mounts and enters root file systems.

mod build;
mod busybox;
mod check;
mod copy;
mod deb;
mod default;
mod enter;
mod image;
mod interrupt;
mod mount;
mod new;
mod progress;
mod propagation;
pub mod registry;
pub mod rootless;
mod shift;

use clap::{Parser, Subcommand};
use drydock_cli::args::Parsed;
use drydock_cli::{Explainer, Outcome};
use drydock_core::{Ctx, Error};
use drydock_images::copy::{Plan, Report};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Build, check, mount and enter root file systems.
#[derive(Parser)]
#[command(name = "rootfs", version, after_help = GUIDE, subcommand_required = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The commands of the guides, beside ours.
const GUIDE: &str = "By hand, and with rootfs:
  mkdir -p R/{bin,lib,lib64,proc,sys,dev,tmp}           rootfs new R
  cp /bin/bash R/bin; ldd /bin/bash; cp LIBRARIES R/…   rootfs copy R /bin/bash /bin/ls /bin/ps
  (try it and read the loader's errors)                 rootfs check R
  curl -o R/bin/busybox …; busybox --list | ln -s …     rootfs busybox R
  debootstrap --variant=minbase stable R                rootfs deb R --suite stable
  umoci unpack --image LAYOUT:TAG BUNDLE                rootfs unpack oci:LAYOUT:TAG R
  docker export C | tar -x -C R                         rootfs import TAR R
  tar -c -C R .                                         rootfs export R TAR
  skopeo copy docker://IMAGE oci:LAYOUT:TAG             rootfs pull IMAGE; rootfs push IMAGE oci:LAYOUT:TAG
  chroot R bash                                         rootfs enter --chroot R -- bash
  mount --bind R R; pivot_root . old; umount -l old     rootfs enter R -- bash
  mount -t overlay overlay -o lowerdir=…,upperdir=… M   rootfs mount --lower L --upper U --work W M
  mount --make-rslave /                                 rootfs propagation / rslave

Exit codes: 0; 1 check, diff or gc --check found something; 2 bad input; 125 rootfs failed; 126, 127 and the command's own for enter.";

#[derive(Subcommand)]
enum Command {
    New(new::Args),
    Copy(copy::Args),
    Closure(copy::ClosureArgs),
    Check(check::Args),
    Busybox(busybox::Args),
    Build(build::Args),
    Recipes(build::RecipesArgs),
    Deb(deb::Args),
    Default(default::Args),
    Unpack(image::fill::Args),
    Import(image::fill::ImportArgs),
    Export(image::fill::ExportArgs),
    Pack(image::keep::Args),
    Pull(image::carry::PullArgs),
    Push(image::carry::PushArgs),
    Login(registry::login::LoginArgs),
    Logout(registry::login::LogoutArgs),
    #[command(visible_alias = "images")]
    List(image::look::ListArgs),
    Inspect(image::look::InspectArgs),
    Tag(image::change::TagArgs),
    #[command(visible_alias = "rmi")]
    Untag(image::change::UntagArgs),
    Config(image::change::ConfigArgs),
    Gc(image::change::GcArgs),
    Diff(image::trees::DiffArgs),
    Du(image::trees::DuArgs),
    /// Mount an overlay of layers: mount(2) with overlay, see overlayfs.rst.
    Mount(mount::Args),
    /// Unmount what `rootfs mount` mounted: umount2(2).
    Umount(mount::UmountArgs),
    /// Run a command with a directory as its root: pivot_root(2), or chroot(2).
    Enter(enter::Args),
    /// Change how mounts spread between mount namespaces: mount_namespaces(7).
    Propagation(propagation::Args),
}

/// The command line, for man pages and shell completions.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// Entry point of `rootfs`.
pub fn main() -> ExitCode {
    drydock_cli::main("rootfs", || match drydock_cli::parse::<Args>()? {
        Parsed::Args(args) => run(args.command),
        Parsed::Done(code) => Ok(code),
    })
}

/// What deals with files of other users; without root in a user namespace that has them.
fn with_ids(command: &Command) -> Result<Option<u8>, Error> {
    use rootless::Without;
    let without = match command {
        Command::Unpack(args) if args.wants_ids() => Without::Note,
        Command::Import(args) if args.wants_ids() => Without::Note,
        Command::Export(_) | Command::Diff(_) | Command::Du(_) => Without::Silence,
        Command::Pack(args) if args.of_directory() => Without::Silence,
        Command::Gc(args) => return rootless::again(Without::Silence, &args.in_use()),
        _ => return Ok(None),
    };
    rootless::again(without, &[])
}

fn run(command: Command) -> Outcome {
    if let Some(code) = with_ids(&command)? {
        return Ok(code);
    }
    match command {
        Command::New(args) => new::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::Closure(args) => copy::closure(&args),
        Command::Check(args) => check::run(&args),
        Command::Busybox(args) => busybox::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Recipes(args) => build::recipes(&args),
        Command::Deb(args) => deb::run(&args),
        Command::Default(args) => default::run(&args),
        Command::Unpack(args) => image::fill::run(&args),
        Command::Import(args) => image::fill::import(&args),
        Command::Export(args) => image::fill::export(&args),
        Command::Pack(args) => image::keep::run(&args),
        Command::Pull(args) => image::carry::pull(&args),
        Command::Push(args) => image::carry::push(&args),
        Command::Login(args) => registry::login::login(&args),
        Command::Logout(args) => registry::login::logout(&args),
        Command::List(args) => image::look::list(&args),
        Command::Inspect(args) => image::look::inspect(&args),
        Command::Tag(args) => image::change::tag(&args),
        Command::Untag(args) => image::change::untag(&args),
        Command::Config(args) => image::change::config(&args),
        Command::Gc(args) => image::change::gc(&args),
        Command::Diff(args) => image::trees::diff(&args),
        Command::Du(args) => image::trees::du(&args),
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => mount::run_umount(args),
        Command::Enter(args) => enter::run(args),
        Command::Propagation(args) => propagation::run(args),
    }
}

/// How the building commands tell what they do.
#[derive(clap::Args, Clone, Copy)]
struct Telling {
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Print each step with its system call and why, before doing it.
    #[arg(long)]
    explain: bool,
}

/// Carries out a plan and reports it: one line, or JSON.
fn apply(plan: &Plan, telling: Telling) -> Result<Report, Error> {
    let explainer = Explainer { on: telling.explain };
    let bar = progress::bar(plan.steps().len(), telling.explain);
    let report = plan.apply_with(&Ctx::new(&explainer, None), &mut |done| bar.at(done))?;
    drop(bar);
    tell(&report, telling)?;
    Ok(report)
}

fn tell(report: &Report, telling: Telling) -> Result<(), Error> {
    if telling.json {
        return drydock_cli::print_json(report);
    }
    let (files, links) = (report.files.len(), report.links.len());
    let size = drydock_core::size::show(report.bytes);
    drydock_cli::print_line(&format!("{}: {files} files ({size}), {links} links", report.root.display()))
}

/// A path of the command line as an absolute one; a bare word stays a name.
fn absolute(path: &Path, keep_names: bool) -> Result<PathBuf, Error> {
    let is_name = path.components().count() == 1 && path.file_name() == Some(path.as_os_str());
    if path.as_os_str().is_empty() || (keep_names && is_name && path != OsStr::new(".")) {
        return Ok(path.to_path_buf());
    }
    std::path::absolute(path).map_err(|e| Error::call("getcwd()", e))
}
