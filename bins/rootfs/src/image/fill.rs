//! `rootfs unpack`, `import`, `export`: trees out of images and archives, and back.

use super::options::{Unpacking, warn};
use super::{Which, keep};
use crate::interrupt::Interrupt;
use crate::{Telling, progress};
use drydock_cli::{Explainer, Outcome};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use drydock_images::oci::pack::{View, Writer};
use drydock_images::oci::{blobs, transfer};
use drydock_images::root::Root;
use drydock_images::unpack::{self, Archive, Job, Options, Report, Staging};
use serde::Serialize;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Unpack an image into a directory. The image is taken to be hostile: nothing outside the directory is touched; the
/// directory appears when it is complete.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The directory; it is made, or must be empty
    dir: PathBuf,
    /// Unpack over what is in the directory; it is then changed as the work goes on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    unpacking: Unpacking,
    #[command(flatten)]
    telling: Telling,
}

impl Args {
    /// Whether files are to keep their owners.
    pub fn wants_ids(&self) -> bool {
        self.unpacking.wants_ids()
    }
}

#[derive(Serialize)]
struct Shown {
    root: PathBuf,
    #[serde(flatten)]
    report: Report,
}

pub fn run(args: &Args) -> Outcome {
    let options = args.unpacking.options()?;
    let image = args.which.find()?;
    let all = image.size();
    let report = fill(&args.dir, args.force, args.telling, all, |root, ctx, go_on| {
        image.unpack(root, &options, ctx, go_on)
    })?;
    tell(&args.dir, report, args.telling)?;
    Ok(0)
}

/// Fills a directory that appears when it is complete.
fn fill(
    dir: &Path,
    force: bool,
    telling: Telling,
    all: u64,
    work: impl FnOnce(OwnedFd, &Ctx<'_>, &mut dyn FnMut(u64) -> bool) -> Result<Report>,
) -> Result<Report> {
    let there = std::fs::symlink_metadata(dir).is_ok();
    let interrupt = Interrupt::hold()?;
    crate::interrupt::raise_file_limit();
    let explainer = Explainer { on: telling.explain };
    let ctx = Ctx::new(&explainer, None);
    let mut bar = progress::bytes(all, telling.explain);
    let mut calls: u32 = 0;
    let mut go_on = |bytes: u64| {
        calls = calls.wrapping_add(1);
        bar.at_bytes(bytes);
        !calls.is_multiple_of(16) || !interrupt.asked()
    };
    if force && there {
        let root = Root::open(dir)?;
        let fd = root.as_fd().try_clone_to_owned().call(|| "dup(root)")?;
        return work(fd, &ctx, &mut go_on);
    }
    let staging = Staging::new(dir)?;
    let report = work(staging.root()?, &ctx, &mut go_on)?;
    if interrupt.asked() {
        return Err(Error::failed("interrupted", "what had been unpacked is removed"));
    }
    staging.commit()?;
    Ok(report)
}

fn tell(dir: &Path, report: Report, telling: Telling) -> Result<()> {
    if telling.json {
        return drydock_cli::print_json(&Shown { root: dir.to_path_buf(), report });
    }
    warn(&report);
    let size = drydock_core::size::show(report.bytes);
    let (files, dirs, links) = (report.files, report.directories, report.links + report.hard_links);
    drydock_cli::print_line(&format!(
        "{}: {files} files ({size}), {dirs} directories, {links} links",
        dir.display()
    ))
}

/// Unpack a tar archive (plain, or compressed by gzip, zstd or xz) into a directory, as hostile as an image; or, with
/// --image, make it an image of one layer.
#[derive(clap::Args)]
pub struct ImportArgs {
    /// The archive; - is standard input
    #[arg(value_name = "TAR")]
    archive: PathBuf,
    /// The directory; it is made, or must be empty
    #[arg(required_unless_present = "image")]
    dir: Option<PathBuf>,
    /// Make an image of one layer: a name in the store, or oci:DIR:TAG
    #[arg(long, value_name = "IMAGE", conflicts_with = "dir")]
    image: Option<String>,
    /// Unpack over what is in the directory
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    unpacking: Unpacking,
    #[command(flatten)]
    telling: Telling,
}

impl ImportArgs {
    /// Whether files are to keep their owners.
    pub fn wants_ids(&self) -> bool {
        self.image.is_none() && self.unpacking.wants_ids()
    }
}

pub fn import(args: &ImportArgs) -> Outcome {
    let options = args.unpacking.options()?;
    let (file, size): (Box<dyn Read + Send>, u64) = if args.archive.as_os_str() == "-" {
        (Box::new(std::io::stdin()), 0)
    } else {
        let file = blobs::open(&args.archive)?;
        let size = file.metadata().call(|| "fstat(archive)")?.len();
        (Box::new(file), size)
    };
    if let Some(name) = &args.image {
        return keep::of_archive(file, name, args.telling);
    }
    let Some(dir) = &args.dir else { return Err(Error::bad_input("DIR", "is missing").into()) };
    let report = fill(dir, args.force, args.telling, size, |root, ctx, go_on| {
        archive(file, root, &options, ctx, go_on)
    })?;
    tell(dir, report, args.telling)?;
    Ok(0)
}

fn archive(
    file: Box<dyn Read + Send>,
    root: OwnedFd,
    options: &Options,
    ctx: &Ctx<'_>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Report> {
    let archive = Archive { name: "archive", whiteouts: false, blob: None, diff: None };
    let mut job = Job::new(root, options);
    let step = unpack::Unpacking { archive: &archive, size: None };
    ctx.perform(&step, |_| job.add(file, &archive, go_on))?;
    Ok(job.report().clone())
}

/// Write a directory as a tar archive: in order of names, the same bytes for the same files. SOURCE_DATE_EPOCH is
/// heeded: no file is newer.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The directory
    dir: PathBuf,
    /// The archive; - is standard output. What its name ends in says how it is compressed: .gz, .tgz, .zst
    #[arg(value_name = "TAR")]
    archive: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn export(args: &ExportArgs) -> Outcome {
    let root = Root::open(&args.dir)?;
    let fd = root.as_fd().try_clone_to_owned().call(|| "dup(root)")?;
    let options = keep::pack_options()?;
    if args.archive.as_os_str() == "-" {
        let out = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout());
        let mut writer = Writer::new(out, &options);
        writer.directory(&fd, &View::default())?;
        writer.finish()?.flush().call(|| "write(stdout)")?;
        return Ok(0);
    }
    let name = args.archive.to_string_lossy().into_owned();
    let compression = match name.rsplit('.').next() {
        Some("gz" | "tgz") => keep::Compress::Gzip,
        Some("zst" | "tzst") => keep::Compress::Zstd,
        Some("xz" | "bz2") => {
            return Err(Error::bad_input(
                drydock_core::text::escape(&name),
                "is not written (allowed: .tar, .gz, .zst)",
            )
            .into());
        }
        _ => keep::Compress::None,
    };
    let entries = transfer::whole(&args.archive, |out| {
        let written = keep::encode(out, compression, |out| {
            let mut writer = Writer::new(out, &options);
            writer.directory(&fd, &View::default())?;
            let entries = writer.entries;
            writer.finish()?;
            Ok(entries)
        });
        written.map(|(_, entries)| entries)
    })?;
    let size = std::fs::metadata(&args.archive).map_or(0, |m| m.len());
    if args.json {
        drydock_cli::print_json(
            &serde_json::json!({ "archive": args.archive, "entries": entries, "bytes": size }),
        )?;
    } else {
        drydock_cli::print_line(&format!(
            "{}: {entries} entries, {}",
            args.archive.display(),
            drydock_core::size::show(size)
        ))?;
    }
    Ok(0)
}
