//! `rootfs pack`, and what else makes an image out of files.

use super::{container, data, platform};
use crate::Telling;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result};
use drydock_images::oci::pack::{self, View, Writer};
use drydock_images::oci::spec::{CONFIG, Config, Descriptor, History, LAYER, MANIFEST, Platform, RootFs};
use drydock_images::oci::{Digest, Image, Layout, Reference, Store, Transport, image};
use drydock_images::root::Root;
use drydock_images::unpack::Stream;
use sha2::{Digest as _, Sha256};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Make a directory an image's layer. Without --base it is an image of its own; with it, the image gets one layer more:
/// what the directory has that the image has not, and the other way round. SOURCE_DATE_EPOCH makes it reproducible.
#[derive(clap::Args)]
pub struct Args {
    /// The directory; not with --container
    dir: PathBuf,
    /// What to call the image: a name in the store, or oci:DIR:TAG
    #[arg(required_unless_present = "container")]
    image: Option<String>,
    /// What a running container has changed, as a layer on its image; without an image its whole root. What is mounted in it
    /// is left out. `container pause` before, if it must not change meanwhile
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// The image below
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// gzip, zstd or none
    #[arg(long, value_enum, default_value = "gzip")]
    compress: Compress,
    /// For which machine [default: that of the base, or this one]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a layer is compressed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Not at all.
    None,
}

impl Compress {
    fn media_type(self) -> String {
        let suffix = match self {
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
            Self::None => "",
        };
        format!("{LAYER}{suffix}")
    }
}

/// SHA-256 of what passes through.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }
    fn digest(&self) -> Result<Digest> {
        let hex: String = self.hash.clone().finalize().iter().map(|b| format!("{b:02x}")).collect();
        Digest::parse(&format!("sha256:{hex}"))
    }
}

/// Writes something through a compressor; gives the file back, and the digest of what went in.
pub fn encode<W: Write, T>(
    file: W,
    compress: Compress,
    write: impl FnOnce(&mut dyn Write) -> Result<T>,
) -> Result<(Digest, T)> {
    let failed = |e: std::io::Error| Error::call("write(archive)", e);
    match compress {
        Compress::None => {
            let mut out = Hashing::new(std::io::BufWriter::with_capacity(256 << 10, file));
            let result = write(&mut out)?;
            out.flush().map_err(failed)?;
            Ok((out.digest()?, result))
        }
        Compress::Gzip => {
            let buffered = std::io::BufWriter::with_capacity(256 << 10, file);
            let mut out =
                Hashing::new(flate2::write::GzEncoder::new(buffered, flate2::Compression::default()));
            let result = write(&mut out)?;
            let digest = out.digest()?;
            out.inner.finish().and_then(|mut w| w.flush()).map_err(failed)?;
            Ok((digest, result))
        }
        Compress::Zstd => {
            let encoder = zstd::stream::write::Encoder::new(file, 3).map_err(failed)?;
            let mut out = Hashing::new(encoder);
            let result = write(&mut out)?;
            let digest = out.digest()?;
            out.inner.finish().and_then(|mut w| w.flush()).map_err(failed)?;
            Ok((digest, result))
        }
    }
}

/// SOURCE_DATE_EPOCH, and whose files are whose.
pub fn pack_options() -> Result<pack::Options> {
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => None,
        Ok(text) => Some(text.parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(|| {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(&text), 40);
            Error::bad_input("SOURCE_DATE_EPOCH", format!("'{shown}' (allowed: seconds since 1970)"))
        })?),
    };
    Ok(pack::Options { epoch, mine_as_root: !nix::unistd::geteuid().is_root() })
}

/// Where an image that is made goes.
pub struct Destination {
    /// The layout that it is put into.
    pub layout: Layout,
    name: String,
    // Held while it is made.
    _held: Option<std::fs::File>,
}

impl Destination {
    /// A name in the store, or in a layout.
    pub fn parse(text: &str) -> Result<Self> {
        let reference = Reference::parse(text)?;
        match reference.transport {
            Transport::Store => {
                let store = Store::at(&data()?);
                let held = Some(store.adding()?);
                Ok(Self { layout: store.layout()?, name: reference.name.unwrap_or_default(), _held: held })
            }
            Transport::Oci(dir) => {
                let name = reference.name.unwrap_or_else(|| "latest".into());
                drydock_images::oci::reference::check_name(&name)?;
                Ok(Self { layout: Layout::create(&dir, 0o755)?, name, _held: None })
            }
            _ => Err(Error::bad_input(
                format!("image '{}'", drydock_core::text::escape(text)),
                "cannot be made there (allowed: a name in the store, or oci:DIR:TAG)",
            )),
        }
    }

    /// Puts the last parts of an image in: configuration, manifest, name.
    pub fn finish(&self, config: &Config, layers: Vec<Descriptor>) -> Result<Descriptor> {
        let bytes = image::to_bytes(config)?;
        let config_blob = self.layout.put(&bytes, CONFIG[0])?;
        let manifest = self.layout.put(&image::manifest(config_blob, layers)?, MANIFEST[0])?;
        let variant = config.other.get("variant").and_then(|v| v.as_str()).map(str::to_string);
        let platform = Platform { architecture: config.architecture.clone(), os: config.os.clone(), variant };
        self.layout.name(&self.name, &manifest, Some(platform))?;
        Ok(manifest)
    }
}

/// When an image was made, as far as anybody may know: SOURCE_DATE_EPOCH, or now.
pub fn created(options: &pack::Options) -> Option<String> {
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = options.epoch.unwrap_or_else(|| i64::try_from(now()).unwrap_or(0));
    Some(rfc3339(seconds))
}

/// Seconds since 1970 as `2024-01-31T12:00:00Z`. Source: the civil calendar's rule, days since March of year 0.
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn open(dir: &std::path::Path) -> Result<OwnedFd> {
    Root::open(dir)?.as_fd().try_clone_to_owned().call(|| "dup(root)")
}

/// What is packed, under which name, and what it lies on.
struct Source {
    dir: OwnedFd,
    view: View,
    name: String,
    base: Option<Image>,
}

impl Args {
    /// Whether it is a directory that is packed.
    pub fn of_directory(&self) -> bool {
        self.container.is_none()
    }

    fn source(&self) -> Result<Source> {
        let wanted = platform(self.platform.as_deref())?;
        let find = |base: &String| Image::find(&Reference::parse(base)?, &wanted, &data()?);
        let base = self.base.as_ref().map(find).transpose()?;
        let Some(container) = &self.container else {
            let name = self.image.clone().unwrap_or_default();
            return Ok(Source { dir: open(&self.dir)?, view: View::default(), name, base });
        };
        if self.image.is_some() {
            return Err(Error::bad_input(
                "--container",
                "stands for the directory (allowed: rootfs pack --container NAME IMAGE)",
            ));
        }
        let name = self.dir.to_string_lossy().into_owned();
        // Before anything is looked at.
        Reference::parse(&name)?;
        let found = container::find(container)?;
        let base = match base {
            Some(base) => Some(base),
            None => Store::at(&data()?).of_tree(&found.rootfs)?,
        };
        Ok(Source { dir: found.dir, view: found.view, name, base })
    }
}

pub fn run(args: &Args) -> Outcome {
    let options = pack_options()?;
    crate::interrupt::raise_file_limit();
    let Source { dir, view, name, base } = args.source()?;
    let base = match base {
        Some(base) => {
            let unpacking = drydock_images::unpack::Options::usual();
            let tree = Store::at(&data()?).tree(&base, &unpacking, &Ctx::silent(), &mut |_, _| true)?;
            Some((base, open(&tree)?))
        }
        None => None,
    };
    let to = Destination::parse(&name)?;
    let mut layers = Vec::new();
    let mut config = match &base {
        Some((base, _)) => {
            // Its blobs go along into another layout.
            to.layout.add(base, &mut |_| true)?;
            layers.extend(base.layers.iter().filter_map(|l| l.descriptor.clone()));
            base.config.clone()
        }
        None => {
            let platform = platform(args.platform.as_deref())?;
            let mut config =
                Config { architecture: platform.architecture, os: platform.os, ..Config::default() };
            config.rootfs = RootFs { kind: "layers".into(), diff_ids: Vec::new() };
            if let Some(variant) = platform.variant {
                config.other.insert("variant".into(), variant.into());
            }
            config
        }
    };
    if config.rootfs.diff_ids.len() != layers.len() {
        return Err(Error::bad_input(
            "--base",
            "is no image of a layout (allowed: one of the store, or oci:DIR)",
        )
        .hint("rootfs pull it into the store first")
        .into());
    }
    let mut blob = to.layout.new_blob()?;
    let (diff_id, entries) = encode(&mut blob, args.compress, |out| {
        let mut writer = Writer::new(out, &options);
        match &base {
            Some((_, old)) => writer.changes(old, &dir, &view)?,
            None => writer.directory(&dir, &view)?,
        }
        let entries = writer.entries;
        writer.finish()?;
        Ok(entries)
    })?;
    let (digest, size) = to.layout.finish(blob, None)?;
    let media_type = args.compress.media_type();
    layers.push(Descriptor { media_type, digest, size, platform: None, annotations: Default::default() });
    config.rootfs.diff_ids.push(diff_id);
    config.created = created(&options);
    config.history.push(History {
        created: config.created.clone(),
        created_by: Some("rootfs pack".into()),
        ..History::default()
    });
    let manifest = to.finish(&config, layers)?;
    made(&name, &manifest, entries, size, args.json)?;
    Ok(0)
}

fn made(image: &str, manifest: &Descriptor, entries: u64, size: u64, json: bool) -> Result<()> {
    if json {
        return drydock_cli::print_json(&serde_json::json!({
            "image": image, "digest": manifest.digest, "entries": entries, "layer_bytes": size,
        }));
    }
    let size = drydock_core::size::show(size);
    drydock_cli::print_line(&format!("{image}: {} ({entries} entries, {size})", manifest.digest))
}

/// `rootfs import TAR --image NAME`: the archive becomes the only layer, as it is.
pub fn of_archive(mut file: Box<dyn Read + Send>, name: &str, telling: Telling) -> Outcome {
    let options = pack_options()?;
    let to = Destination::parse(name)?;
    let mut blob = to.layout.new_blob()?;
    std::io::copy(&mut file, &mut blob).call(|| "write(blob)")?;
    let (digest, size) = to.layout.finish(blob, None)?;
    // Read as a layer is, so that nothing comes in that could not be unpacked.
    let blobs = to.layout.blobs()?;
    let mut start = [0; 8];
    let n = blobs
        .open(&drydock_images::oci::blobs::blob_name(&digest))?
        .0
        .read(&mut start)
        .call(|| "read(blob)")?;
    let compression = drydock_images::unpack::Compression::of(start.get(..n).unwrap_or_default())?;
    let (reader, _) = blobs.open(&drydock_images::oci::blobs::blob_name(&digest))?;
    let mut tarball = drydock_images::unpack::tarball::Tarball::new(Stream::new(
        reader,
        drydock_images::unpack::Limits::default().ratio,
    )?);
    let mut entries = 0;
    while tarball.next_entry()?.is_some() {
        entries += 1;
    }
    tarball.finish()?;
    let mut stream = tarball.into_inner();
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(drydock_images::unpack::stream::unwrap)?;
    let Some(sums) = stream.sums() else { return Err(Error::failed("archive", "has no end").into()) };
    let here = Platform::here();
    let config = Config {
        created: created(&options),
        architecture: here.architecture,
        os: here.os,
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![Digest::parse(&format!("sha256:{}", sums.diff))?],
        },
        history: vec![History {
            created: created(&options),
            created_by: Some("rootfs import".into()),
            ..History::default()
        }],
        ..Config::default()
    };
    let media_type = format!("{LAYER}{}", compression.suffix());
    let layer = Descriptor { media_type, digest, size, platform: None, annotations: Default::default() };
    let manifest = to.finish(&config, vec![layer])?;
    made(name, &manifest, entries, size, telling.json)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(rfc3339(4_102_444_799), "2099-12-31T23:59:59Z");
    }
}
