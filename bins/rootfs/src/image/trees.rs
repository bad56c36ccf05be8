//! `rootfs diff`, `rootfs du`: directories and images compared and measured.

use super::{data, platform};
use drydock_cli::{Outcome, output};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Result, size};
use drydock_images::oci::pack::{self, Change};
use drydock_images::oci::store::chain;
use drydock_images::oci::{Image, Reference, Store};
use drydock_images::root::Root;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Tell how two root file systems differ: A added, C changed, D deleted, as seen from the first. Each is a directory, or
/// an image. Exits 1 if they differ.
#[derive(clap::Args)]
pub struct DiffArgs {
    /// The first
    a: String,
    /// The second
    b: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    change: Change,
    path: String,
}

/// A directory, or the tree of an image.
fn tree(word: &str) -> Result<OwnedFd> {
    let dir = if Path::new(word).is_dir() && !Path::new(word).join("oci-layout").exists() {
        PathBuf::from(word)
    } else {
        let image = Image::find(&Reference::parse(word)?, &platform(None)?, &data()?)?;
        let options = drydock_images::unpack::Options::usual();
        Store::at(&data()?).tree(&image, &options, &Ctx::silent(), &mut |_, _| true)?
    };
    Root::open(&dir)?.as_fd().try_clone_to_owned().call(|| "dup(root)")
}

pub fn diff(args: &DiffArgs) -> Outcome {
    crate::interrupt::raise_file_limit();
    let (a, b) = (tree(&args.a)?, tree(&args.b)?);
    let mut lines = Vec::new();
    pack::diff(&a, &b, &mut |change, path| {
        let path = format!("/{}", drydock_core::text::escape_bytes(path));
        lines.push(Line { change, path });
    })?;
    if args.json {
        drydock_cli::print_json(&lines)?;
    } else {
        for line in &lines {
            let letter = match line.change {
                Change::Added => 'A',
                Change::Changed => 'C',
                Change::Deleted => 'D',
            };
            drydock_cli::print_line(&format!("{letter} {}", line.path))?;
        }
    }
    Ok(u8::from(!lines.is_empty()))
}

/// Show how much room root file systems take on the disk: without arguments the images of the store, each with what it
/// shares; with directories, their own.
#[derive(clap::Args)]
pub struct DuArgs {
    /// Directories
    dirs: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Usage {
    name: String,
    files: u64,
    /// Bytes that it says it has.
    bytes: u64,
    /// Bytes on the disk, each file once.
    disk: u64,
    /// Of these, what others have, too.
    shared: u64,
    /// Bytes of the compressed layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<u64>,
}

/// Adds a tree: inode → (blocks in bytes, names in this tree, names in all).
fn measure(dir: &Path, usage: &mut Usage) {
    let mut seen: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            usage.disk += meta.blocks() * 512;
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
            continue;
        }
        usage.files += 1;
        if meta.is_file() {
            usage.bytes += meta.size();
        }
        let here = seen.entry((meta.dev(), meta.ino())).or_insert(0);
        *here += 1;
        if *here == 1 {
            usage.disk += meta.blocks() * 512;
            usage.shared += if meta.nlink() > 1 { meta.blocks() * 512 } else { 0 };
        }
        if *here == meta.nlink() && meta.nlink() > 1 {
            // All its names are in this tree: nobody else has it.
            usage.shared -= meta.blocks() * 512;
        }
    }
}

pub fn du(args: &DuArgs) -> Outcome {
    let mut rows = Vec::new();
    if args.dirs.is_empty() {
        let store = Store::at(&data()?);
        for listed in store.list()? {
            let image = store.find(&listed.digest.to_string(), &platform(None)?);
            let ids = image.as_ref().map(|i| i.config.rootfs.diff_ids.clone()).unwrap_or_default();
            let name = listed.name.unwrap_or_else(|| listed.digest.to_string());
            let mut usage = Usage { name, layers: Some(listed.size), ..Usage::default() };
            if let Some(tree) = chain(&ids).and_then(|_| store.tree_of(&ids)) {
                measure(&tree, &mut usage);
            }
            rows.push(usage);
        }
    }
    for dir in &args.dirs {
        Root::open(dir)?;
        let mut usage = Usage { name: dir.display().to_string(), ..Usage::default() };
        measure(dir, &mut usage);
        rows.push(usage);
    }
    if args.json {
        drydock_cli::print_json(&rows)?;
        return Ok(0);
    }
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|u| {
            let layers = u.layers.map_or_else(|| "-".into(), size::show);
            vec![
                drydock_core::text::escape(&u.name),
                u.files.to_string(),
                size::show(u.bytes),
                size::show(u.disk),
                size::show(u.shared),
                layers,
            ]
        })
        .collect();
    drydock_cli::print_text(&output::table(&["NAME", "FILES", "BYTES", "DISK", "SHARED", "LAYERS"], &table))?;
    Ok(0)
}
