//! `rootfs pull`: manifest, configuration, layers; what is there is not fetched, what was cut off goes on.

use super::client::{Ask, Client};
use super::work::{self, Shared};
use super::{Options, check, shown};
use crate::image::data;
use crate::interrupt::Interrupt;
use drydock_core::{Error, Result};
use drydock_images::oci::reference::Name;
use drydock_images::oci::spec::{Config, Descriptor, Document, INDEX, MANIFEST, Manifest};
use drydock_images::oci::{Digest, Layout, Platform, Store};
use std::io::{Read, Write};

/// How often a layer is begun again where it was cut off.
const TRIES: u32 = 4;

/// Pulls an image into the store and names it.
///
/// # Errors
/// No registry, no image, no platform, another digest than announced.
pub fn pull(
    source: &Name,
    name: &str,
    platform: &Platform,
    options: &Options,
    interrupt: &Interrupt,
) -> Result<Digest> {
    let client = Client::new(source, false, &options.access)?;
    let store = Store::at(&data()?);
    let _held = store.adding()?;
    let layout = store.layout()?;
    let (descriptor, bytes, manifest) = manifest(&client, platform)?;
    let blobs: Vec<Descriptor> = std::iter::once(&manifest.config).chain(&manifest.layers).cloned().collect();
    let mut wanted: Vec<Descriptor> = Vec::new();
    for blob in blobs {
        if !layout.has(&blob.digest, blob.size) && !wanted.iter().any(|w| w.digest == blob.digest) {
            wanted.push(blob);
        }
    }
    let all = wanted.iter().map(|d| d.size).fold(0, u64::saturating_add);
    work::each(&wanted, all, options.parallel, interrupt, |blob, shared| {
        fetch(&client, &layout, blob, shared)
    })?;
    let config = layout.blobs()?.read_checked(&manifest.config)?;
    Config::parse(&config, manifest.layers.len())?;
    layout.put(&bytes, &descriptor.media_type)?;
    layout.name(name, &descriptor, Some(descriptor.platform.clone().unwrap_or_else(|| platform.clone())))?;
    Ok(descriptor.digest)
}

fn manifest(client: &Client, platform: &Platform) -> Result<(Descriptor, Vec<u8>, Manifest)> {
    let name = client.name();
    let mut reference = match (&name.digest, &name.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
    };
    let mut expected: Option<Descriptor> = None;
    let mut of: Option<Platform> = None;
    for _ in 0..4 {
        let accept = INDEX.iter().chain(&MANIFEST).copied().collect::<Vec<_>>().join(", ");
        let path = format!("manifests/{reference}");
        let ask = Ask { method: "GET", path: &path, headers: vec![("Accept", accept)] };
        let response = client.ask(&ask, || Ok(None))?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").and_then(|h| h.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_string();
        let bytes = client.text(response)?;
        check(name, status, &[200], || String::from_utf8_lossy(&bytes).into_owned())?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = expected.as_ref().map(|d| &d.digest).or(name.digest.as_ref())
            && digest != *wanted
        {
            return Err(Error::bad_input(
                shown(name),
                format!("manifest: sha256 expected {}, got {}", wanted.hex(), digest.hex()),
            ));
        }
        // Without a type of its own, the document says what it is.
        let known = INDEX.contains(&kind.as_str()) || MANIFEST.contains(&kind.as_str());
        match Document::parse("manifest", &bytes, if known { &kind } else { "" })? {
            Document::Index(index) => {
                let chosen = index.choose(platform)?;
                reference = chosen.digest.to_string();
                of = chosen.platform.clone();
                expected = Some(chosen.clone());
            }
            Document::Manifest(manifest) => {
                let media_type = manifest
                    .media_type
                    .clone()
                    .unwrap_or_else(|| if known { kind } else { MANIFEST[0].into() });
                let size = bytes.len() as u64;
                let descriptor =
                    Descriptor { media_type, digest, size, platform: of, annotations: Default::default() };
                return Ok((descriptor, bytes, manifest));
            }
        }
    }
    Err(Error::bad_input(shown(name), "an index that leads to an index that leads to an index …"))
}

/// One blob, from where an earlier try has come to.
fn fetch(client: &Client, layout: &Layout, blob: &Descriptor, shared: &Shared) -> Result<()> {
    let mut last = None;
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(std::time::Duration::from_millis(500 << attempt));
        }
        match once(client, layout, blob, shared) {
            Ok(()) => return Ok(()),
            // What is wrong stays wrong; an interrupt is meant.
            Err(e) if e.kind() == drydock_core::Kind::BadInput || e.sentence().starts_with("interrupted") => {
                return Err(e);
            }
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| Error::failed(blob.digest.to_string(), "cannot be fetched")))
}

fn once(client: &Client, layout: &Layout, blob: &Descriptor, shared: &Shared) -> Result<()> {
    let Some(mut part) = layout.partial(&blob.digest, blob.size)? else { return Ok(()) };
    let from = part.size();
    if from < blob.size {
        let mut headers = Vec::new();
        if from > 0 {
            headers.push(("Range", format!("bytes={from}-")));
        }
        let path = format!("blobs/{}", blob.digest);
        let response = client.ask(&Ask { method: "GET", path: &path, headers }, || Ok(None))?;
        match response.status().as_u16() {
            206 if from > 0 => shared.add(from)?,
            // It begins at the beginning.
            200 => part.restart()?,
            status => {
                let text = client.text(response)?;
                return Err(super::refused(client.name(), status, &String::from_utf8_lossy(&text)));
            }
        }
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| {
                Error::failed(blob.digest.to_string(), drydock_core::text::escape(&e.to_string()))
            })?;
            if n == 0 {
                break;
            }
            if part.size().saturating_add(n as u64) > blob.size {
                part.restart()?;
                return Err(Error::bad_input(
                    format!("blob {}", blob.digest),
                    format!("is larger than {} bytes", blob.size),
                ));
            }
            part.write_all(buffer.get(..n).unwrap_or_default()).map_err(|e| Error::call("write(blob)", e))?;
            shared.add(n as u64)?;
        }
        if part.size() < blob.size {
            return Err(Error::failed(blob.digest.to_string(), "was cut off"));
        }
    }
    layout.finish(part, Some((&blob.digest, blob.size))).map(drop)
}
