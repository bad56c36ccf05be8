//! An image layout that is written to: blobs by their digests, and the index that names images. Each file appears whole,
//! by rename(2); the index changes under a lock. Source: image-spec, image-layout.md.

use super::blobs::{Blobs, blob_name};
use super::digest::Digest;
use super::image::{self, Image, names_of};
use super::spec::{CONFIG, Descriptor, IMAGE_NAME, Index, LAYER, MANIFEST, Platform, REF_NAME};
use crate::root::shown;
use crate::unpack::Compression;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

/// A file that becomes a blob when all of it has been written.
#[derive(Debug)]
pub struct NewBlob {
    file: File,
    path: Option<PathBuf>,
    hash: Sha256,
    size: u64,
    /// It stays when it is not finished, to be gone on with.
    partial: bool,
}

impl NewBlob {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Begins anew.
    ///
    /// # Errors
    /// ftruncate(2)'s.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).call(|| "ftruncate(blob, 0)")?;
        std::io::Seek::rewind(&mut self.file).call(|| "lseek(blob)")?;
        (self.hash, self.size) = (Sha256::new(), 0);
        Ok(())
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| !self.partial) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How unfinished files begin.
const TEMPORARY: &str = ".new-";
/// How those begin that can be gone on with.
const PARTIAL: &str = ".part-";

impl Layout {
    /// The layout in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a directory with other things in it; mkdir(2)'s.
    pub fn create(dir: &Path, mode: u32) -> Result<Self> {
        let layout = Self { dir: dir.to_path_buf() };
        if dir.join("oci-layout").is_file() && dir.join("index.json").is_file() {
            // Somebody may have died, or may be busy, before the last directory was made.
            make_dir(&dir.join("blobs/sha256"), mode)?;
            return Ok(layout);
        }
        let foreign = |name: &std::ffi::OsStr| {
            !matches!(
                name.to_str(),
                Some("oci-layout" | "index.json" | "blobs" | "index.lock" | "lock" | "trees" | "trees.lock")
            ) && !name.to_string_lossy().starts_with(TEMPORARY)
        };
        if let Ok(mut entries) = std::fs::read_dir(dir)
            && entries.any(|e| e.is_ok_and(|e| foreign(&e.file_name())))
        {
            return Err(Error::bad_input(
                shown(dir),
                "has other files and is no image layout (allowed: a layout, or a new directory)",
            ));
        }
        make_dir(&dir.join("blobs/sha256"), mode)?;
        let _lock = layout.lock("index.lock", FlockOperation::LockExclusive)?;
        if !dir.join("index.json").is_file() {
            layout.replace("index.json", &image::to_bytes(&Index::empty())?)?;
        }
        layout.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// The layout that is in a directory.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        if dir.join("oci-layout").is_file() && dir.join("index.json").is_file() {
            return Ok(Self { dir: dir.to_path_buf() });
        }
        let problem = "is no image layout (allowed: a directory with oci-layout and index.json)";
        Err(Error::bad_input(shown(dir), problem))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Its blobs.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn blobs(&self) -> Result<Blobs> {
        Blobs::directory(&self.dir)
    }

    /// Waits for a lock; it is free when the file is closed, also by death.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn lock(&self, name: &str, operation: FlockOperation) -> Result<File> {
        let path = self.dir.join(name);
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path);
        let file = file.call(|| format!("open({path:?}, O_RDWR|O_CREAT)"))?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::call(format!("flock({path:?})"), e)),
            }
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = self.dir.join(temporary_name());
        let target = self.dir.join(name);
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        let done = written.call(|| format!("write({temporary:?})")).and_then(|()| {
            std::fs::rename(&temporary, &target).call(|| format!("rename({temporary:?}, {target:?})"))
        });
        if done.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        done
    }

    /// Its index.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a damaged one.
    pub fn index(&self) -> Result<Index> {
        image::read_index(&self.blobs()?)
    }

    /// Changes the index, under its lock.
    ///
    /// # Errors
    /// `change`'s; those of reading and writing it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _lock = self.lock("index.lock", FlockOperation::LockExclusive)?;
        let mut index = self.index()?;
        let before = image::to_bytes(&index)?;
        let result = change(&mut index)?;
        let after = image::to_bytes(&index)?;
        if before != after {
            self.replace("index.json", &after)?;
        }
        Ok(result)
    }

    /// Names a manifest; who had the name before loses it.
    ///
    /// # Errors
    /// As [`Layout::change`].
    pub fn name(&self, name: &str, descriptor: &Descriptor, platform: Option<Platform>) -> Result<()> {
        self.change(|index| {
            forget(index, name);
            // Without a name it is not kept beside the one with a name.
            index.manifests.retain(|d| d.digest != descriptor.digest || !names_of(d).is_empty());
            let mut entry =
                Descriptor { platform, annotations: std::collections::BTreeMap::new(), ..descriptor.clone() };
            entry.annotations.insert(REF_NAME.into(), name.into());
            index.manifests.push(entry);
            Ok(())
        })
    }

    /// Whether it has a blob, in full length.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        std::fs::symlink_metadata(self.dir.join(blob_name(digest)))
            .is_ok_and(|m| m.is_file() && m.len() == size)
    }

    /// A new blob.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn new_blob(&self) -> Result<NewBlob> {
        let path = self.dir.join("blobs/sha256").join(temporary_name());
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o644).open(&path);
        let file = file.call(|| format!("open({path:?}, O_CREAT|O_EXCL)"))?;
        Ok(NewBlob { file, path: Some(path), hash: Sha256::new(), size: 0, partial: false })
    }

    /// A blob that may have come in part already. `None` if it is there. Whoever else fetches it is waited for.
    ///
    /// # Errors
    /// open(2)'s and read(2)'s.
    pub fn partial(&self, digest: &Digest, size: u64) -> Result<Option<NewBlob>> {
        let path = self.dir.join("blobs/sha256").join(format!("{PARTIAL}{}", digest.hex()));
        loop {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644);
            let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path);
            let file = file.call(|| format!("open({path:?}, O_CREAT)"))?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive).call(|| format!("flock({path:?})"))?;
            if self.has(digest, size) {
                let _ = std::fs::remove_file(&path);
                return Ok(None);
            }
            // Whoever had it may have put it in its place, or away.
            let inode = |m: std::fs::Metadata| std::os::unix::fs::MetadataExt::ino(&m);
            let same = std::fs::symlink_metadata(&path).ok().map(inode) == file.metadata().ok().map(inode);
            if !same {
                continue;
            }
            let mut blob = NewBlob { file, path: Some(path), hash: Sha256::new(), size: 0, partial: true };
            let mut buffer = vec![0; 256 << 10];
            loop {
                let n = blob.file.read(&mut buffer).call(|| "read(blob)")?;
                if n == 0 {
                    break;
                }
                blob.hash.update(buffer.get(..n).unwrap_or_default());
                blob.size += n as u64;
            }
            if blob.size > size {
                blob.restart()?;
            }
            return Ok(Some(blob));
        }
    }

    /// Puts a blob in its place. `expected`: what it must be.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for another digest or size; fsync(2)'s and rename(2)'s.
    pub fn finish(&self, mut blob: NewBlob, expected: Option<(&Digest, u64)>) -> Result<(Digest, u64)> {
        let hex: String = blob.hash.clone().finalize().iter().map(|b| format!("{b:02x}")).collect();
        let digest = Digest::of_hex(&hex);
        if let Some((wanted, size)) = expected {
            let what = format!("blob {wanted}");
            if size != blob.size {
                return Err(Error::bad_input(what, format!("size expected {size}, got {}", blob.size)));
            }
            if *wanted != digest {
                // Going on with it would never make it right.
                blob.partial = false;
                return Err(Error::bad_input(what, format!("sha256 expected {}, got {hex}", wanted.hex())));
            }
        }
        let target = self.dir.join(blob_name(&digest));
        if let Some(path) = blob.path.clone() {
            blob.file.sync_data().call(|| format!("fdatasync({path:?})"))?;
            std::fs::rename(&path, &target).call(|| format!("rename({path:?}, {target:?})"))?;
            blob.path = None;
        }
        Ok((digest, blob.size))
    }

    /// A small blob.
    ///
    /// # Errors
    /// As [`Layout::finish`].
    pub fn put(&self, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        if !self.has(&digest, size) {
            let mut blob = self.new_blob()?;
            blob.write_all(bytes).call(|| "write(blob)")?;
            self.finish(blob, Some((&digest, size)))?;
        }
        Ok(Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: Default::default(),
        })
    }

    /// Copies an image's blobs into this layout, those that it lacks, each checked. The descriptor of its manifest, which
    /// is made where the image has none. `go_on` hears the bytes copied, and says whether to go on.
    ///
    /// # Errors
    /// As [`Layout::finish`]; those of reading.
    pub fn add(&self, image: &Image, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Descriptor> {
        let mut done = 0;
        let mut layers = Vec::new();
        for (n, layer) in image.layers.iter().enumerate() {
            let named = |e: Error| crate::unpack::within(&format!("layer {}", n + 1), &e);
            let copied = self.layer(image, layer, &mut done, go_on).map_err(named)?;
            layers.push(copied);
        }
        let config = self.put(&image.config_bytes, CONFIG[0])?;
        match (&image.descriptor, image.manifest_bytes.is_empty()) {
            (Some(descriptor), false) => {
                let put = self.put(&image.manifest_bytes, &descriptor.media_type)?;
                let media_type = if put.media_type.is_empty() { MANIFEST[0].into() } else { put.media_type };
                Ok(Descriptor { media_type, ..put })
            }
            _ => self.put(&image::manifest(config, layers)?, MANIFEST[0]),
        }
    }

    fn layer(
        &self,
        image: &Image,
        layer: &image::Layer,
        done: &mut u64,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Descriptor> {
        if let Some(known) = layer.descriptor.as_ref().filter(|d| self.has(&d.digest, d.size)) {
            *done += known.size;
            return Ok(known.clone());
        }
        let (mut from, _) = image.blobs.open(&layer.file)?;
        let mut to = self.new_blob()?;
        let mut buffer = vec![0; 256 << 10];
        let mut start: Option<Compression> = None;
        loop {
            let n = from.read(&mut buffer).call(|| format!("read({:?})", layer.file))?;
            if n == 0 {
                break;
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            if start.is_none() {
                start = Some(Compression::of(bytes)?);
            }
            to.write_all(bytes).call(|| "write(blob)")?;
            *done += n as u64;
            if !go_on(*done) {
                return Err(Error::failed("copy", "was interrupted"));
            }
        }
        let expected = layer.descriptor.as_ref().map(|d| (&d.digest, d.size));
        let (digest, size) = self.finish(to, expected)?;
        if let Some(known) = &layer.descriptor {
            return Ok(known.clone());
        }
        let media_type = format!("{LAYER}{}", start.unwrap_or(Compression::None).suffix());
        Ok(Descriptor { media_type, digest, size, platform: None, annotations: Default::default() })
    }

    /// Files that killed processes left unfinished. Right only while nobody writes.
    pub fn left(&self) -> Vec<PathBuf> {
        let dirs = [self.dir.clone(), self.dir.join("blobs/sha256")];
        let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        let ours = |name: &std::ffi::OsStr| {
            [TEMPORARY, PARTIAL].iter().any(|start| name.to_string_lossy().starts_with(start))
        };
        entries.filter(|e| ours(&e.file_name())).map(|e| e.path()).collect()
    }
}

/// Takes a name away; the image stays in the index without one only if it had no other.
pub fn forget(index: &mut Index, name: &str) -> bool {
    let before = index.manifests.len();
    index.manifests.retain(|d| {
        ![REF_NAME, IMAGE_NAME].iter().any(|key| d.annotations.get(*key).is_some_and(|n| n == name))
    });
    before != index.manifests.len()
}

fn temporary_name() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{TEMPORARY}{}-{n}", std::process::id())
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.call(|| format!("mkdir({path:?}, {mode:04o})")).map_err(|e| e.on(shown(path)))
}
