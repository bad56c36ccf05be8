//! Files of an image: in a directory, or in a tar archive, where they are found by their offsets.

use super::digest::Digest;
use super::spec::{Descriptor, MAX_JSON};
use crate::root::shown;
use crate::unpack::stream::{Compression, Stream};
use crate::unpack::tarball::{Kind, Tarball};
use crate::view::View;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of one archive, at most.
const MAX_FILES: usize = 100_000;

/// Where blobs are.
#[derive(Debug)]
pub enum Blobs {
    /// Below a directory.
    Directory {
        /// Its path, for messages.
        path: PathBuf,
        /// Reading below it.
        view: View,
    },
    /// In a tar archive.
    Archive {
        /// Its path, for messages.
        path: PathBuf,
        /// The archive, plain.
        file: Arc<File>,
        /// Where in it each file is: offset and size.
        files: HashMap<Vec<u8>, (u64, u64)>,
    },
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(buffer.get_mut(..want).unwrap_or_default(), self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Blobs {
    /// Below this directory.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if it is none.
    pub fn directory(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| cannot(path, e.raw_os_error()))?;
        Ok(Self::Directory { path: path.into(), view: View::inside(fd.as_fd(), path)? })
    }

    /// In this archive; a compressed one is unpacked into a file without a name in `scratch` first.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for what is not a tar archive.
    pub fn archive(path: &Path, scratch: &Path, max_bytes: u64) -> Result<Self> {
        let mut file = open(path)?;
        let mut start = [0; 8];
        let n = file.read_at(&mut start, 0).call(|| format!("read({path:?})"))?;
        let named = |e: Error| crate::unpack::within(&shown(path), &e);
        if Compression::of(start.get(..n).unwrap_or_default()).map_err(named)? != Compression::None {
            file = plain(file, scratch, max_bytes).map_err(named)?;
        }
        let files = files(&file).map_err(named)?;
        Ok(Self::Archive { path: path.into(), file: Arc::new(file), files })
    }

    /// Where they are, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. } | Self::Archive { path, .. } => path,
        }
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory { view, .. } => view.open(Path::new(name)).is_ok(),
            Self::Archive { files, .. } => files.contains_key(name.as_bytes()),
        }
    }

    /// Opens a file, and says how long it is.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if it is missing or not a regular file.
    pub fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        match self {
            Self::Directory { path, view } => {
                let file =
                    view.open(Path::new(name)).map_err(|e| cannot(&path.join(name), e.raw_os_error()))?;
                let size = file.metadata().call(|| format!("fstat({name:?})"))?.len();
                Ok((Box::new(file), size))
            }
            Self::Archive { path, file, files } => {
                let Some((at, size)) = files.get(name.as_bytes()) else {
                    let name = drydock_core::text::shorten(&drydock_core::text::escape(name), 200);
                    return Err(Error::bad_input(shown(path), format!("has no '{name}'")));
                };
                Ok((Box::new(Part { file: Arc::clone(file), at: *at, left: *size }), *size))
            }
        }
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// As [`Blobs::open`]; larger than 4 MiB.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let (file, _) = self.open(name)?;
        let mut bytes = Vec::new();
        file.take(MAX_JSON + 1).read_to_end(&mut bytes).call(|| format!("read({name:?})"))?;
        if bytes.len() as u64 > MAX_JSON {
            return Err(Error::bad_input(name, format!("is larger than {MAX_JSON} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a manifest, index or configuration, and makes sure that it is the one that was meant.
    ///
    /// # Errors
    /// As [`Blobs::read`]; another digest or size.
    pub fn read_checked(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read(&blob_name(&descriptor.digest))?;
        check(&bytes, descriptor)?;
        Ok(bytes)
    }
}

/// Makes sure that bytes are those that a descriptor means.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check(bytes: &[u8], descriptor: &Descriptor) -> Result<()> {
    let what = format!("blob {}", descriptor.digest);
    if bytes.len() as u64 != descriptor.size {
        let problem = format!("size expected {}, got {}", descriptor.size, bytes.len());
        return Err(Error::bad_input(what, problem));
    }
    let found = Digest::of(bytes);
    if found != descriptor.digest {
        return Err(Error::bad_input(
            what,
            format!("sha256 expected {}, got {}", descriptor.digest.hex(), found.hex()),
        ));
    }
    Ok(())
}

/// Where a layout keeps a blob.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Opens a regular file that somebody named on the command line.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| cannot(path, e.raw_os_error()))?;
    let file = File::from(fd);
    let meta = file.metadata().call(|| format!("fstat({path:?})"))?;
    if meta.is_dir() {
        return Err(Error::bad_input(shown(path), "is a directory (allowed: a file)"));
    }
    if !meta.is_file() {
        return Err(Error::bad_input(shown(path), "is not a regular file"));
    }
    Ok(file)
}

fn cannot(path: &Path, errno: i32) -> Error {
    let why = match errno {
        nix::libc::ENOENT => "does not exist".to_string(),
        nix::libc::EINVAL => "is not a regular file".to_string(),
        nix::libc::EISDIR => "is a directory (allowed: a file)".to_string(),
        nix::libc::ENOTDIR => "is not a directory".to_string(),
        other => drydock_core::error::errno_text(other),
    };
    Error::bad_input(shown(path), why)
}

/// A compressed archive, plain, in a file without a name.
fn plain(file: File, scratch: &Path, max_bytes: u64) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::open(scratch, flags, Mode::from_raw_mode(0o600))
        .call(|| format!("open({scratch:?}, O_TMPFILE)"))?;
    let mut out = File::from(fd);
    let stream = Stream::new(file, crate::unpack::Limits::default().ratio)?;
    let copied = std::io::copy(&mut stream.take(max_bytes.saturating_add(1)), &mut out);
    if copied.map_err(crate::unpack::stream::unwrap)? > max_bytes {
        return Err(Error::bad_input("archive", format!("is larger than {max_bytes} bytes unpacked")));
    }
    out.seek(SeekFrom::Start(0)).call(|| "lseek()")?;
    Ok(out)
}

/// Where each file of an archive is. Links, as old versions of `docker save` make them, lead to files of the archive.
fn files(file: &File) -> Result<HashMap<Vec<u8>, (u64, u64)>> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(0)).call(|| "lseek()")?;
    let mut tarball = Tarball::new(BufReader::with_capacity(16 << 10, reader));
    let mut files = HashMap::new();
    let mut links = Vec::new();
    while let Some(entry) = tarball.next_entry()? {
        let limits = crate::unpack::Limits::default();
        let name = crate::unpack::limits::clean(&entry, &entry.name, &limits)?;
        match entry.kind {
            Kind::File if entry.segments.is_some() => return Err(entry.bad("is a sparse file")),
            Kind::File if files.insert(name.clone(), (tarball.position(), entry.size)).is_some() => {
                return Err(entry.bad("is there twice"));
            }
            Kind::File => {}
            Kind::Symlink => {
                let dir = crate::unpack::split(&name).0.to_vec();
                let full = [&dir[..], b"/", &entry.link].concat();
                links.push((name, crate::unpack::limits::clean(&entry, &full, &limits)?));
            }
            Kind::HardLink => {
                links.push((name, crate::unpack::limits::clean(&entry, &entry.link, &limits)?));
            }
            _ => {}
        }
        if files.len() + links.len() > MAX_FILES {
            return Err(entry.bad(format!("is one file too many (allowed in an image archive: {MAX_FILES})")));
        }
        tarball.seek_over()?;
    }
    for _ in 0..3 {
        for (name, target) in &links {
            if let Some(found) = files.get(target).copied() {
                files.insert(name.clone(), found);
            }
        }
    }
    Ok(files)
}
