//! One image, wherever it is: its configuration, and its layers ready to be read.

use super::blobs::{Blobs, blob_name};
use super::digest::Digest;
use super::reference::{Reference, Transport};
use super::spec::{
    CONFIG, Config, Descriptor, Document, IMAGE_NAME, INDEX, Index, LAYER, MANIFEST, Manifest, Platform,
    REF_NAME,
};
use super::store::Store;
use crate::root::shown;
use drydock_core::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its file among the blobs.
    pub file: String,
    /// Its digest and size as the manifest has them; `None` where the format has none (docker-archive).
    pub descriptor: Option<Descriptor>,
    /// The digest of its tar archive.
    pub diff_id: Digest,
}

/// See the module.
#[derive(Debug)]
pub struct Image {
    /// Where its blobs are.
    pub blobs: Blobs,
    /// Its names there.
    pub names: Vec<String>,
    /// Its manifest's descriptor; `None` where there is none (docker-archive).
    pub descriptor: Option<Descriptor>,
    /// Its manifest, as it is.
    pub manifest_bytes: Vec<u8>,
    /// Its manifest.
    pub manifest: Option<Manifest>,
    /// Its configuration, as it is.
    pub config_bytes: Vec<u8>,
    /// Its configuration.
    pub config: Config,
    /// Its layers, from the lowest up.
    pub layers: Vec<Layer>,
}

/// An entry of `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Image {
    /// Finds an image. Registries are not asked: what is in one must be pulled first.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: none of that name, damaged, for other machines only.
    pub fn find(reference: &Reference, platform: &Platform, data_root: &Path) -> Result<Self> {
        let scratch = || {
            let dir = data_root.join("images");
            if dir.is_dir() { dir } else { std::env::temp_dir() }
        };
        let max = crate::unpack::Limits::default().bytes;
        let name = reference.name.as_deref();
        match &reference.transport {
            Transport::Oci(dir) => Self::of_layout(Blobs::directory(dir)?, name, platform),
            Transport::OciArchive(file) => {
                let blobs = Blobs::archive(file, &scratch(), max)?;
                if !blobs.has("index.json") && blobs.has("manifest.json") {
                    return Self::of_docker(blobs, name);
                }
                Self::of_layout(blobs, name, platform)
            }
            Transport::DockerArchive(file) => Self::of_docker(Blobs::archive(file, &scratch(), max)?, name),
            Transport::Store => Store::at(data_root).find(name.unwrap_or_default(), platform),
            Transport::Registry => {
                // It may have been pulled.
                let name = name.unwrap_or_default();
                Store::at(data_root).find(name, platform).map_err(|_| {
                    let problem = "is not in the store (registries are asked by rootfs pull only)";
                    Error::bad_input(format!("image '{name}'"), problem).hint(format!("rootfs pull {name}"))
                })
            }
        }
    }

    /// In an image layout.
    ///
    /// # Errors
    /// As [`Image::find`].
    pub fn of_layout(blobs: Blobs, name: Option<&str>, platform: &Platform) -> Result<Self> {
        let index = read_index(&blobs)?;
        let found = choose(&index, name, platform, blobs.path())?.clone();
        let names = names_of(&found);
        Self::of_descriptor(blobs, &found, names, platform)
    }

    /// What a descriptor leads to.
    ///
    /// # Errors
    /// As [`Image::find`].
    pub fn of_descriptor(
        blobs: Blobs,
        found: &Descriptor,
        names: Vec<String>,
        platform: &Platform,
    ) -> Result<Self> {
        let mut descriptor = found.clone();
        // An index may lead to an index, but not for ever.
        for _ in 0..4 {
            let bytes = blobs.read_checked(&descriptor)?;
            match Document::parse("manifest", &bytes, &descriptor.media_type)? {
                Document::Index(index) => descriptor = index.choose(platform)?.clone(),
                Document::Manifest(manifest) => {
                    return Self::of_manifest(blobs, names, descriptor, bytes, manifest);
                }
            }
        }
        Err(Error::bad_input("index", "leads to an index that leads to an index …"))
    }

    fn of_manifest(
        blobs: Blobs,
        names: Vec<String>,
        descriptor: Descriptor,
        manifest_bytes: Vec<u8>,
        manifest: Manifest,
    ) -> Result<Self> {
        let kind = &manifest.config.media_type;
        if !kind.is_empty() && !CONFIG.contains(&kind.as_str()) {
            let kind = drydock_core::text::shorten(&drydock_core::text::escape(kind), 100);
            return Err(Error::bad_input(
                "manifest",
                format!("/config/mediaType: '{kind}' is no container image"),
            ));
        }
        let config_bytes = blobs.read_checked(&manifest.config)?;
        let config = Config::parse(&config_bytes, manifest.layers.len())?;
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids).enumerate();
        let layers = pairs
            .map(|(n, (layer, diff))| {
                check_layer(n + 1, &layer.media_type)?;
                let file = blob_name(&layer.digest);
                Ok(Layer { file, descriptor: Some(layer.clone()), diff_id: diff.clone() })
            })
            .collect::<Result<_>>()?;
        let manifest = Some(manifest);
        Ok(Self {
            blobs,
            names,
            descriptor: Some(descriptor),
            manifest_bytes,
            manifest,
            config_bytes,
            config,
            layers,
        })
    }

    /// In what `docker save` writes.
    ///
    /// # Errors
    /// As [`Image::find`].
    pub fn of_docker(blobs: Blobs, name: Option<&str>) -> Result<Self> {
        let bytes = blobs.read("manifest.json")?;
        let all: Vec<Saved> = serde_json::from_slice(&bytes)
            .map_err(|e| Error::bad_input("manifest.json", drydock_core::text::escape(&e.to_string())))?;
        let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
        let has = |saved: &&Saved| {
            name.is_none_or(|n| {
                tags(saved).iter().any(|tag| tag == n || tag.strip_suffix(":latest") == Some(n))
            })
        };
        let mut fitting = all.iter().filter(has);
        let Some(saved) = fitting.next() else {
            return Err(no_such(blobs.path(), name, all.iter().flat_map(tags).collect()));
        };
        if fitting.next().is_some() {
            return Err(several(blobs.path(), all.iter().flat_map(tags).collect()));
        }
        let config_bytes = blobs.read(&saved.config)?;
        let config = Config::parse(&config_bytes, saved.layers.len())?;
        let named = Path::new(&saved.config).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if named.len() == 64 && named != Digest::of(&config_bytes).hex() {
            return Err(Error::bad_input(
                "manifest.json",
                "/0/Config: the file has another SHA-256 than its name",
            ));
        }
        let layers = saved.layers.iter().zip(&config.rootfs.diff_ids);
        let layers =
            layers.map(|(file, diff)| Layer { file: file.clone(), descriptor: None, diff_id: diff.clone() });
        let layers = layers.collect();
        let names = tags(saved);
        Ok(Self {
            blobs,
            names,
            descriptor: None,
            manifest_bytes: Vec::new(),
            manifest: None,
            config_bytes,
            config,
            layers,
        })
    }

    /// Unpacks all its layers into an open directory, one over the other. `go_on` hears the bytes unpacked so far, and says
    /// whether to go on.
    ///
    /// # Errors
    /// As [`crate::unpack::Job::add`].
    pub fn unpack(
        &self,
        root: std::os::fd::OwnedFd,
        options: &crate::unpack::Options,
        ctx: &drydock_core::Ctx<'_>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<crate::unpack::Report> {
        let mut job = crate::unpack::Job::new(root, options);
        let mut before: u64 = 0;
        for (n, layer) in self.layers.iter().enumerate() {
            let name = format!("layer {}", n + 1);
            let blob = layer.descriptor.as_ref().map(|d| (d.digest.hex(), d.size));
            let archive = crate::unpack::Archive {
                name: &name,
                whiteouts: true,
                blob,
                diff: Some(layer.diff_id.hex()),
            };
            let step = crate::unpack::Unpacking { archive: &archive, size: blob.map(|b| b.1) };
            let sums = ctx.perform(&step, |_| {
                let (file, _) = self.blobs.open(&layer.file).map_err(|e| crate::unpack::within(&name, &e))?;
                job.add(file, &archive, &mut |bytes| go_on(before.saturating_add(bytes)))
            })?;
            before = before.saturating_add(sums.diff_size);
        }
        Ok(job.report().clone())
    }

    /// Bytes of all its layers as they are stored.
    pub fn size(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| match &layer.descriptor {
                Some(descriptor) => descriptor.size,
                None => self.blobs.open(&layer.file).map_or(0, |(_, size)| size),
            })
            .sum()
    }
}

fn check_layer(number: usize, kind: &str) -> Result<()> {
    let base = kind.split('+').next().unwrap_or_default();
    let known = kind.is_empty()
        || base == LAYER
        || base == "application/vnd.oci.image.layer.nondistributable.v1.tar"
        || kind.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        || kind.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar");
    if known && !kind.contains("encrypted") {
        return Ok(());
    }
    let kind = drydock_core::text::shorten(&drydock_core::text::escape(kind), 100);
    Err(Error::bad_input(
        format!("layer {number}"),
        format!("mediaType '{kind}' is no layer (allowed: {LAYER}, +gzip, +zstd)"),
    ))
}

/// The index of a layout.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn read_index(blobs: &Blobs) -> Result<Index> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        image_layout_version: String,
    }
    let text = blobs.read("oci-layout").map_err(|e| {
        e.hint("an image layout has the file oci-layout; for docker save's archives: docker-archive:FILE")
    })?;
    let version: Version = serde_json::from_slice(&text)
        .map_err(|e| Error::bad_input("oci-layout", drydock_core::text::escape(&e.to_string())))?;
    if !version.image_layout_version.starts_with("1.") {
        let shown =
            drydock_core::text::shorten(&drydock_core::text::escape(&version.image_layout_version), 40);
        return Err(Error::bad_input("oci-layout", format!("version '{shown}' (allowed: 1.0.0)")));
    }
    match Document::parse("index.json", &blobs.read("index.json")?, "")? {
        Document::Index(index) => Ok(index),
        Document::Manifest(_) => Err(Error::bad_input("index.json", "is a manifest (allowed: an index)")),
    }
}

/// What an index calls an image.
pub fn names_of(descriptor: &Descriptor) -> Vec<String> {
    let words = [IMAGE_NAME, REF_NAME].iter().filter_map(|key| descriptor.annotations.get(*key));
    let mut names: Vec<String> = words.cloned().collect();
    names.dedup();
    names
}

/// The entry of an index that a name means.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming what there is.
pub fn choose<'i>(
    index: &'i Index,
    name: Option<&str>,
    platform: &Platform,
    path: &Path,
) -> Result<&'i Descriptor> {
    let kinds = || {
        index.manifests.iter().filter(|d| {
            d.media_type.is_empty()
                || INDEX.contains(&d.media_type.as_str())
                || MANIFEST.contains(&d.media_type.as_str())
        })
    };
    let named: Vec<&Descriptor> = match name {
        None => kinds().collect(),
        Some(name) => match name.strip_prefix('@') {
            Some(digest) => {
                let digest = Digest::parse(digest)?;
                kinds().filter(|d| d.digest == digest).collect()
            }
            None => kinds().filter(|d| names_of(d).iter().any(|n| n == name)).collect(),
        },
    };
    let all = || kinds().flat_map(names_of).collect::<Vec<_>>();
    match named.as_slice() {
        [] => Err(no_such(path, name, all())),
        [one] => Ok(one),
        [first, rest @ ..] if rest.iter().all(|d| d.digest == first.digest) => Ok(first),
        several_found => {
            // One image for several machines, each under the same name or under none.
            let list =
                Index { manifests: several_found.iter().map(|d| (*d).clone()).collect(), ..Index::empty() };
            let by_platform = several_found.iter().all(|d| d.platform.is_some());
            let fitting = by_platform.then(|| list.choose(platform).map(|d| d.digest.clone())).transpose()?;
            match fitting.and_then(|digest| several_found.iter().find(|d| d.digest == digest).copied()) {
                Some(found) => Ok(found),
                None => Err(several(path, all())),
            }
        }
    }
}

fn list(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    let count = names.len();
    names.truncate(20);
    let text = drydock_core::text::escape(&names.join(", "));
    match count {
        0 => "nothing with a name".to_string(),
        n if n > 20 => format!("{text} and {} more", n - 20),
        _ => text,
    }
}

fn no_such(path: &Path, name: Option<&str>, names: Vec<String>) -> Error {
    match name {
        Some(name) => {
            let name = drydock_core::text::shorten(&drydock_core::text::escape(name), 200);
            Error::bad_input(
                format!("image '{name}'"),
                format!("is not in {} (it has {})", shown(path), list(names)),
            )
        }
        None => Error::bad_input(shown(path), "has no image"),
    }
}

fn several(path: &Path, names: Vec<String>) -> Error {
    Error::bad_input(shown(path), format!("has several images: {} (allowed: PATH:NAME)", list(names)))
}

/// A manifest of these parts.
///
/// # Errors
/// None that can happen: the parts are JSON.
pub fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST[0].into()),
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    to_bytes(&manifest)
}

/// JSON.
///
/// # Errors
/// None that can happen.
pub fn to_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::failed("JSON", e.to_string()))
}
