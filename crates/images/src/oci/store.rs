//! The store: an image layout below the data directory, and the root file systems of its images, unpacked once for each
//! chain of layers. `images/trees/CHAIN` is complete as soon as it is there; a tree shares the files of the one below it.
//!
//! Locks: `lock` is held shared by whoever adds, exclusively by `gc`; `trees.lock` by whoever unpacks.

use super::blobs::blob_name;
use super::digest::Digest;
use super::image::{Image, names_of};
use super::layout::{Layout, forget};
use super::reference::Name;
use super::spec::{Descriptor, Document, Index, Platform};
use super::tree;
use crate::unpack::{Archive, Job, Options, Unpacking, staging};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// What `gc` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Blobs of no image.
    pub blobs: Vec<String>,
    /// Trees of no image that no container uses.
    pub trees: Vec<String>,
    /// What killed processes left: roots in the making, wherever they are, and parts of blobs.
    #[serde(default)]
    pub unfinished: Vec<PathBuf>,
    /// Bytes that this freed.
    pub bytes: u64,
}

/// One image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name; `None` if it has lost it to another.
    pub name: Option<String>,
    /// Its manifest.
    pub digest: Digest,
    /// When it was made.
    pub created: Option<String>,
    /// For which machine.
    pub platform: String,
    /// Layers.
    pub layers: usize,
    /// Bytes of them.
    pub size: u64,
    /// It is unpacked.
    pub unpacked: bool,
}

/// The name of the tree of these layers. Source: image-spec, config.md, "Layer ChainID".
pub fn chain(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    let next = |below: Digest, layer: &Digest| Digest::of(format!("{below} {layer}").as_bytes());
    Some(rest.iter().fold(first.clone(), next))
}

impl Store {
    /// The store of a data directory. Nothing is made yet.
    pub fn at(data_root: &Path) -> Self {
        Self { dir: data_root.join("images") }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.dir.join("index.json").is_file()
    }

    /// Its layout, made if it is missing.
    ///
    /// # Errors
    /// mkdir(2)'s.
    pub fn layout(&self) -> Result<Layout> {
        if !self.exists()
            && let Some(data) = self.dir.parent()
        {
            let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o711)
                .recursive(true)
                .create(data);
            made.call(|| format!("mkdir({data:?}, 0711)")).map_err(|e| {
                e.in_stage("rootfs").hint("set DRYDOCK_DATA to a directory that you can write")
            })?;
        }
        Layout::create(&self.dir, 0o755)
    }

    /// Held while something is added.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn adding(&self) -> Result<File> {
        self.layout()?.lock("lock", FlockOperation::LockShared)
    }

    fn index(&self) -> Result<Index> {
        if self.exists() { self.layout()?.index() } else { Ok(Index::empty()) }
    }

    /// The entry of the index that a name means: the whole name, a registry's name without its defaults, or the first
    /// digits of a manifest's digest.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if there is none, or several begin so.
    pub fn entry(&self, name: &str) -> Result<Option<Descriptor>> {
        let index = self.index()?;
        let named = |wanted: &str| index.manifests.iter().find(|d| names_of(d).iter().any(|n| n == wanted));
        if let Some(found) = named(name) {
            return Ok(Some(found.clone()));
        }
        let full = Name::parse(name).ok().map(|n| n.to_string());
        if let Some(found) = full.as_deref().and_then(named) {
            return Ok(Some(found.clone()));
        }
        let latest = format!("{name}:latest");
        if let Some(found) = named(&latest) {
            return Ok(Some(found.clone()));
        }
        let digits = name
            .strip_prefix("sha256:")
            .or(name.strip_prefix('@').and_then(|n| n.strip_prefix("sha256:")))
            .unwrap_or(name);
        let is_hex = digits.len() >= 6 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return Ok(None);
        }
        let fits: BTreeMap<&str, &Descriptor> = index
            .manifests
            .iter()
            .filter(|d| d.digest.hex().starts_with(digits))
            .map(|d| (d.digest.hex(), d))
            .collect();
        if fits.len() > 1 {
            return Err(Error::bad_input(
                format!("image '{digits}'"),
                "several digests begin so (allowed: more digits)",
            ));
        }
        Ok(fits.values().next().map(|d| (*d).clone()))
    }

    /// Finds an image.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if there is none of that name.
    pub fn find(&self, name: &str, platform: &Platform) -> Result<Image> {
        let Some(descriptor) = self.entry(name)? else {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(name), 200);
            return Err(Error::bad_input(format!("image '{shown}'"), "is not in the store")
                .hint("rootfs list shows what is; rootfs pull NAME fetches one"));
        };
        let names = names_of(&descriptor);
        Image::of_descriptor(self.layout()?.blobs()?, &descriptor, names, platform)
    }

    /// The image whose unpacked tree a directory is.
    ///
    /// # Errors
    /// As [`Image::find`].
    pub fn of_tree(&self, tree: &Path) -> Result<Option<Image>> {
        let name = tree.file_name().unwrap_or_default();
        if tree.parent() != Some(&self.dir.join("trees")) {
            return Ok(None);
        }
        for descriptor in self.index()?.manifests {
            let platform = descriptor.platform.clone().unwrap_or_else(Platform::here);
            let names = names_of(&descriptor);
            let image = Image::of_descriptor(self.layout()?.blobs()?, &descriptor, names, &platform)?;
            if chain(&image.config.rootfs.diff_ids).is_some_and(|c| OsStr::new(c.hex()) == name) {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// Copies an image into the store under a name.
    ///
    /// # Errors
    /// As [`Layout::add`].
    pub fn add(&self, image: &Image, name: &str, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Descriptor> {
        let _held = self.adding()?;
        let layout = self.layout()?;
        let descriptor = layout.add(image, go_on)?;
        layout.name(name, &descriptor, Some(platform_of(image)))?;
        Ok(descriptor)
    }

    /// What is in it.
    ///
    /// # Errors
    /// As [`Image::find`].
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        for descriptor in self.index()?.manifests {
            let names = names_of(&descriptor);
            let name = names.into_iter().next_back();
            let platform = descriptor.platform.clone().unwrap_or_else(Platform::here);
            let image = Image::of_descriptor(self.layout()?.blobs()?, &descriptor, Vec::new(), &platform)?;
            let config = &image.config;
            all.push(Listed {
                name,
                digest: descriptor.digest,
                created: config.created.clone(),
                platform: platform_of(&image).to_string(),
                layers: image.layers.len(),
                size: image.size(),
                unpacked: self.tree_of(&config.rootfs.diff_ids).is_some(),
            });
        }
        all.sort_by(|a, b| (&a.name, &a.digest).cmp(&(&b.name, &b.digest)));
        Ok(all)
    }

    /// Takes a name away. The blobs go with the next `gc`. False if nobody had it.
    ///
    /// # Errors
    /// As [`Layout::change`].
    pub fn untag(&self, name: &str) -> Result<bool> {
        if !self.exists() {
            return Ok(false);
        }
        let full = Name::parse(name).ok().map(|n| n.to_string());
        self.layout()?
            .change(|index| Ok(forget(index, name) || full.is_some_and(|full| forget(index, &full))))
    }

    /// The unpacked tree of these layers, if there is one.
    pub fn tree_of(&self, diff_ids: &[Digest]) -> Option<PathBuf> {
        let path = self.dir.join("trees").join(chain(diff_ids)?.hex());
        (path.is_dir() && self.is_whole(&path)).then_some(path)
    }

    /// Whether all of a tree is there. One that an earlier boot has made may have been on its way to the disk when the
    /// power went; `gc` makes sure, and takes the mark away.
    fn is_whole(&self, tree: &Path) -> bool {
        match std::fs::read_to_string(mark(tree)) {
            Ok(boot) => boot == boot_id(),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// The unpacked root file system of an image, made if it is missing. It is shared: nobody may write to it.
    ///
    /// # Errors
    /// As [`crate::unpack::Job::add`]; [`drydock_core::Kind::BadInput`] for an image without layers.
    pub fn tree(
        &self,
        image: &Image,
        options: &Options,
        ctx: &Ctx<'_>,
        go_on: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<PathBuf> {
        let ids = &image.config.rootfs.diff_ids;
        if ids.is_empty() {
            return Err(Error::bad_input("image", "has no layers (allowed: at least one)"));
        }
        if let Some(path) = self.tree_of(ids) {
            return Ok(path);
        }
        let _held = self.adding()?;
        let layout = self.layout()?;
        let trees = self.dir.join("trees");
        let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o711)
            .recursive(true)
            .create(&trees);
        made.call(|| format!("mkdir({trees:?}, 0711)"))?;
        let _lock = layout.lock("trees.lock", FlockOperation::LockExclusive)?;
        staging::sweep(&trees, OsStr::new(""));
        let below = (1..=ids.len()).rev().find(|n| ids.get(..*n).and_then(|ids| self.tree_of(ids)).is_some());
        let mut below = below.unwrap_or(0);
        let all: u64 = image.size();
        let mut done: u64 = 0;
        while below < ids.len() {
            self.one_more(image, below, options, ctx, &mut |bytes| go_on(done.saturating_add(bytes), all))?;
            done += image.layers.get(below).and_then(|l| l.descriptor.as_ref()).map_or(0, |d| d.size);
            below += 1;
        }
        self.tree_of(ids).ok_or_else(|| Error::failed("store", "the tree is not there"))
    }

    /// The tree of one layer more than `below`.
    fn one_more(
        &self,
        image: &Image,
        below: usize,
        options: &Options,
        ctx: &Ctx<'_>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let ids = &image.config.rootfs.diff_ids;
        let (Some(layer), Some(chain)) =
            (image.layers.get(below), chain(ids.get(..=below).unwrap_or_default()))
        else {
            return Err(Error::failed("store", "no such layer"));
        };
        let trees = self.dir.join("trees");
        let (temporary, root) = staging::create(&trees, OsStr::new(""))?;
        let number = format!("layer {}", below + 1);
        let blob = layer.descriptor.as_ref().map(|d| (d.digest.hex(), d.size));
        let archive = Archive { name: &number, whiteouts: true, blob, diff: Some(layer.diff_id.hex()) };
        let step = Unpacking { archive: &archive, size: blob.map(|b| b.1) };
        let filled = ctx.perform(&step, |_| {
            if let Some(lower) = ids.get(..below).and_then(|ids| self.tree_of(ids)) {
                tree::again(&open(&lower)?, &root)?;
            }
            let mut job = Job::new(root.try_clone().call(|| "dup(root)")?, options);
            let (file, _) = image.blobs.open(&layer.file)?;
            job.add(file, &archive, go_on).map(drop)
        });
        let target = trees.join(chain.hex());
        let filled = filled.and_then(|()| {
            if target.is_dir() {
                discard(&target)?;
            }
            let mark = mark(&target);
            std::fs::write(&mark, boot_id()).call(|| format!("write({mark:?})"))
        });
        let placed = filled.and_then(|()| {
            std::fs::rename(&temporary, &target).call(|| format!("rename({temporary:?}, {target:?})"))
        });
        if placed.is_err() {
            staging::remove(&temporary);
        }
        placed
    }

    /// Removes blobs and trees that no image of the index needs and that no process uses; `also_used`: what [`used_trees`]
    /// has told one who sees more processes.
    ///
    /// # Errors
    /// When the index cannot be read: then nothing is removed.
    pub fn gc(&self, dry: bool, also_used: &[String]) -> Result<Removed> {
        let mut removed = Removed::default();
        for left in self.dir.parent().map(crate::unfinished::left).unwrap_or_default() {
            if left.is_there() {
                removed.bytes += freed(&left.place);
                removed.unfinished.push(left.place.clone());
            }
            if !dry {
                left.remove()?;
            }
        }
        if !self.exists() {
            return Ok(removed);
        }
        let layout = self.layout()?;
        let _lock = layout.lock("lock", FlockOperation::LockExclusive)?;
        let (blobs, trees) = self.needed(&layout)?;
        for path in layout.left().into_iter().chain(staging::left(&self.dir.join("trees"), OsStr::new(""))) {
            removed.bytes += freed(&path);
            if !dry && path.is_dir() {
                staging::remove(&path);
            } else if !dry {
                std::fs::remove_file(&path).call(|| format!("unlink({path:?})"))?;
            }
            removed.unfinished.push(path);
        }
        if !dry {
            self.settle()?;
        }
        let mut used = used_trees();
        used.extend(also_used.iter().cloned());
        for (dir, keep, gone) in
            [("blobs/sha256", &blobs, &mut removed.blobs), ("trees", &trees, &mut removed.trees)]
        {
            for entry in std::fs::read_dir(self.dir.join(dir)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.')
                    || keep.contains(&name)
                    || used.iter().any(|line| line.contains(&name))
                {
                    continue;
                }
                removed.bytes += freed(&entry.path());
                if !dry {
                    discard(&entry.path())?;
                }
                gone.push(name);
            }
        }
        Ok(removed)
    }

    /// Brings all trees to the disk; those that an earlier boot may have left incomplete go.
    fn settle(&self) -> Result<()> {
        let trees = self.dir.join("trees");
        let Ok(entries) = std::fs::read_dir(&trees) else { return Ok(()) };
        let name =
            |e: std::fs::DirEntry| e.file_name().to_string_lossy().strip_prefix(".boot-").map(str::to_string);
        let marked: Vec<PathBuf> = entries.flatten().filter_map(name).map(|n| trees.join(n)).collect();
        if marked.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(open(&trees)?).call(|| format!("syncfs({trees:?})"))?;
        for tree in marked {
            if tree.is_dir() && !self.is_whole(&tree) {
                discard(&tree)?;
            }
            let _ = std::fs::remove_file(mark(&tree));
        }
        Ok(())
    }

    /// Hexadecimal names of the blobs and trees of all images in the index.
    fn needed(&self, layout: &Layout) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let (mut keep, mut trees) = (BTreeSet::new(), BTreeSet::new());
        let blobs = layout.blobs()?;
        let mut todo: Vec<Descriptor> = layout.index()?.manifests;
        while let Some(descriptor) = todo.pop() {
            if !keep.insert(descriptor.digest.hex().to_string()) || !blobs.has(&blob_name(&descriptor.digest))
            {
                continue;
            }
            let bytes = blobs.read_checked(&descriptor)?;
            match Document::parse("manifest", &bytes, &descriptor.media_type)? {
                Document::Index(index) => todo.extend(index.manifests),
                Document::Manifest(manifest) => {
                    keep.insert(manifest.config.digest.hex().to_string());
                    keep.extend(manifest.layers.iter().map(|l| l.digest.hex().to_string()));
                    let Ok(config) = blobs.read_checked(&manifest.config) else { continue };
                    let Ok(config) = super::spec::Config::parse(&config, manifest.layers.len()) else {
                        continue;
                    };
                    let ids = &config.rootfs.diff_ids;
                    trees.extend(
                        (1..=ids.len()).filter_map(|n| chain(ids.get(..n)?)).map(|c| c.hex().to_string()),
                    );
                }
            }
        }
        Ok((keep, trees))
    }
}

/// What an image says that it is for.
pub fn platform_of(image: &Image) -> Platform {
    let variant = image.config.other.get("variant").and_then(|v| v.as_str()).map(str::to_string);
    Platform { architecture: image.config.architecture.clone(), os: image.config.os.clone(), variant }
}

fn open(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).call(|| format!("open({dir:?}, O_DIRECTORY)"))
}

/// Where it is written which boot has made a tree that may not be on the disk yet.
fn mark(tree: &Path) -> PathBuf {
    let name = tree.file_name().unwrap_or_default().to_string_lossy();
    tree.with_file_name(format!(".boot-{name}"))
}

/// This boot's id (random(4)); empty without procfs.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

/// Lines of mountinfo of all processes that we may look at which name one of our trees: as a layer of an overlay, or bound.
pub fn used_trees() -> BTreeSet<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let files = processes.map(|p| p.path().join("mountinfo"));
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .flat_map(|text| {
            text.lines().filter(|l| l.contains("images/trees/")).map(str::to_string).collect::<Vec<_>>()
        })
        .collect()
}

/// Bytes that go when a file or tree goes: files with other names elsewhere stay.
fn freed(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut todo = vec![path.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        } else if meta.nlink() == 1 {
            bytes += meta.blocks() * 512;
        }
    }
    bytes
}

fn discard(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return std::fs::remove_file(path).call(|| format!("unlink({path:?})"));
    }
    // First out of sight: nobody must find half of one.
    let Some(dir) = path.parent() else { return Ok(()) };
    let (gone, _held) = staging::create(dir, OsStr::new(""))?;
    std::fs::rename(path, &gone).call(|| format!("rename({path:?}, {gone:?})"))?;
    staging::remove(&gone);
    Ok(())
}
