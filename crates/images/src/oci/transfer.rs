//! An image from where it is to where it shall be: the store, a layout, an archive.

use super::blobs::blob_name;
use super::image::{Image, to_bytes};
use super::layout::Layout;
use super::reference::{Reference, Transport};
use super::spec::Descriptor;
use super::store::{Store, platform_of};
use crate::unfinished::{self, Word};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Copies an image. `go_on` hears the bytes copied, and says whether to go on.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a destination that cannot be one; those of reading and writing.
pub fn copy(
    image: &Image,
    to: &Reference,
    data_root: &Path,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Descriptor>> {
    let name = to.name.as_deref();
    match &to.transport {
        Transport::Store => Store::at(data_root).add(image, name.unwrap_or("latest"), go_on).map(Some),
        Transport::Oci(dir) => {
            let layout = Layout::create(dir, 0o755)?;
            let descriptor = layout.add(image, go_on)?;
            layout.name(name.unwrap_or("latest"), &descriptor, Some(platform_of(image)))?;
            Ok(Some(descriptor))
        }
        Transport::OciArchive(file) => {
            whole(file, |out| oci(image, name.unwrap_or("latest"), out, go_on)).map(Some)
        }
        Transport::DockerArchive(file) => {
            whole(file, |out| docker(image, name, out, go_on))?;
            Ok(None)
        }
        Transport::Registry => Err(Error::bad_input("registry", "is written to by rootfs push only")),
    }
}

/// Writes a file that appears whole; what a killed process has written of one, `rootfs gc` removes.
///
/// # Errors
/// `write`'s; open(2)'s and rename(2)'s.
pub fn whole<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<T>) -> Result<T> {
    let name =
        path.file_name().ok_or_else(|| Error::bad_input(crate::root::shown(path), "is no file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!("{}new-{}", unfinished::MARK, std::process::id()));
    let temporary: PathBuf = path.with_file_name(temporary);
    let _word = std::path::absolute(&temporary).ok().and_then(|path| Word::of(&path));
    let file = File::create_new(&temporary)
        .call(|| format!("open({temporary:?}, O_CREAT|O_EXCL)"))
        .map_err(|e| e.on(crate::root::shown(path)))?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let done = write(&mut out).and_then(|result| {
        out.flush().call(|| format!("write({temporary:?})"))?;
        std::fs::rename(&temporary, path).call(|| format!("rename({temporary:?}, {path:?})"))?;
        Ok(result)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

fn header(name: &str, size: u64, kind: EntryType) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_mtime(0);
    header.set_path(name).map_err(|e| Error::failed("archive", e.to_string()))?;
    header.set_cksum();
    Ok(header)
}

fn put(out: &mut impl Write, name: &str, bytes: &[u8]) -> Result<()> {
    out.write_all(header(name, bytes.len() as u64, EntryType::Regular)?.as_bytes())
        .call(|| "write(archive)")?;
    out.write_all(bytes).call(|| "write(archive)")?;
    pad(out, bytes.len() as u64)
}

fn pad(out: &mut impl Write, size: u64) -> Result<()> {
    let zeros = [0; 512];
    let n = usize::try_from(crate::unpack::tarball::padding(size)).unwrap_or(0);
    out.write_all(zeros.get(..n).unwrap_or_default()).call(|| "write(archive)")
}

fn layer(
    image: &Image,
    file: &str,
    name: &str,
    out: &mut impl Write,
    done: &mut u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<()> {
    let (mut from, size) = image.blobs.open(file)?;
    out.write_all(header(name, size, EntryType::Regular)?.as_bytes()).call(|| "write(archive)")?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = size;
    while left > 0 {
        let n = from.read(&mut buffer).call(|| format!("read({file:?})"))?;
        let n = n.min(usize::try_from(left).unwrap_or(usize::MAX));
        if n == 0 {
            return Err(Error::bad_input(file, "is shorter than it was"));
        }
        out.write_all(buffer.get(..n).unwrap_or_default()).call(|| "write(archive)")?;
        left -= n as u64;
        *done += n as u64;
        if !go_on(*done) {
            return Err(Error::failed("copy", "was interrupted"));
        }
    }
    pad(out, size)
}

fn oci(
    image: &Image,
    name: &str,
    out: &mut impl Write,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Descriptor> {
    // A layout for what is made new: manifest and index. It has no layers, but takes the descriptors.
    let (manifest, mut descriptor) = match (&image.descriptor, &image.manifest) {
        (Some(descriptor), Some(_)) => (image.manifest_bytes.clone(), descriptor.clone()),
        _ => {
            return Err(Error::bad_input(
                "image",
                "has no manifest (allowed: an image of the store or of a layout)",
            )
            .hint("rootfs pull it into the store first"));
        }
    };
    descriptor.annotations = [(super::spec::REF_NAME.to_string(), name.to_string())].into();
    descriptor.platform = Some(platform_of(image));
    let index = super::spec::Index { manifests: vec![descriptor.clone()], ..super::spec::Index::empty() };
    put(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put(out, "index.json", &to_bytes(&index)?)?;
    for dir in ["blobs/", "blobs/sha256/"] {
        out.write_all(header(dir, 0, EntryType::Directory)?.as_bytes()).call(|| "write(archive)")?;
    }
    put(out, &blob_name(&descriptor.digest), &manifest)?;
    put(out, &blob_name(&super::Digest::of(&image.config_bytes)), &image.config_bytes)?;
    let mut done = 0;
    let mut seen = std::collections::BTreeSet::new();
    for one in image.layers.iter().filter(|l| l.file.starts_with("blobs/")) {
        if seen.insert(&one.file) {
            layer(image, &one.file, &one.file, out, &mut done, go_on)?;
        }
    }
    out.write_all(&[0; 1024]).call(|| "write(archive)")?;
    Ok(descriptor)
}

fn docker(
    image: &Image,
    name: Option<&str>,
    out: &mut impl Write,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<()> {
    let config = format!("{}.json", super::Digest::of(&image.config_bytes).hex());
    let mut done = 0;
    let mut layers: Vec<String> = Vec::new();
    for one in &image.layers {
        let file = format!("{}.tar", one.diff_id.hex());
        if !layers.contains(&file) {
            layer(image, &one.file, &file, out, &mut done, go_on)?;
        }
        layers.push(file);
    }
    put(out, &config, &image.config_bytes)?;
    let tags: Vec<String> = match name {
        Some(name) => {
            vec![super::reference::Name::parse(name).map_or_else(|_| name.to_string(), |_| with_tag(name))]
        }
        None => Vec::new(),
    };
    put(
        out,
        "manifest.json",
        &to_bytes(&json!([{ "Config": config, "RepoTags": tags, "Layers": layers }]))?,
    )?;
    out.write_all(&[0; 1024]).call(|| "write(archive)")
}

/// A name that docker load takes: it wants a tag.
fn with_tag(name: &str) -> String {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => name.to_string(),
        _ => format!("{name}:latest"),
    }
}
