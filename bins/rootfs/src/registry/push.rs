//! `rootfs push`: the blobs that a registry lacks, then the manifest.

use super::client::{Ask, Client};
use super::work::{self, Shared};
use super::{Options, check, shown};
use crate::interrupt::Interrupt;
use drydock_core::{Error, Result};
use drydock_images::oci::blobs::blob_name;
use drydock_images::oci::reference::Name;
use drydock_images::oci::spec::{Descriptor, MANIFEST};
use drydock_images::oci::{Digest, Image};
use std::io::Read;
use std::sync::Mutex;
use ureq::SendBody;

/// Pushes an image.
///
/// # Errors
/// No registry, no permission; an image without a manifest.
pub fn push(image: &Image, to: &Name, options: &Options, interrupt: &Interrupt) -> Result<Digest> {
    let (Some(manifest), Some(descriptor)) = (&image.manifest, &image.descriptor) else {
        return Err(Error::bad_input(
            "image",
            "has no manifest (allowed: an image of the store or of a layout)",
        )
        .hint("rootfs pull it into the store first"));
    };
    let client = Client::new(to, true, &options.access)?;
    let mut wanted: Vec<Blob> = Vec::new();
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if wanted.iter().any(|w| w.descriptor.digest == blob.digest) {
            continue;
        }
        let (reader, size) = image.blobs.open(&blob_name(&blob.digest))?;
        if size != blob.size {
            let problem = format!("size expected {}, got {size}", blob.size);
            return Err(Error::bad_input(format!("blob {}", blob.digest), problem));
        }
        wanted.push(Blob { descriptor: blob.clone(), reader: Mutex::new(Some(reader)) });
    }
    let all = wanted.iter().map(|b| b.descriptor.size).fold(0, u64::saturating_add);
    work::each(&wanted, all, options.parallel, interrupt, |blob, shared| send(&client, blob, shared))?;
    let reference = to.tag.clone().unwrap_or_else(|| descriptor.digest.to_string());
    let kind = if descriptor.media_type.is_empty() { MANIFEST[0] } else { &descriptor.media_type };
    let path = format!("manifests/{reference}");
    let ask = Ask { method: "PUT", path: &path, headers: vec![("Content-Type", kind.to_string())] };
    let mut bytes: &[u8];
    let response = {
        let all = &image.manifest_bytes;
        let headers = vec![("Content-Type", kind.to_string()), ("Content-Length", all.len().to_string())];
        let ask = Ask { headers, ..ask };
        // A token may have to be got first: the body is made for each try.
        let _ = client.ask(&Ask { method: "HEAD", path: &path, headers: Vec::new() }, || Ok(None))?;
        bytes = all.as_slice();
        let mut body = Some(SendBody::from_reader(&mut bytes));
        client.ask(&ask, || Ok(body.take()))?
    };
    let status = response.status().as_u16();
    let text = client.text(response)?;
    check(to, status, &[200, 201, 202], || String::from_utf8_lossy(&text).into_owned())?;
    Ok(descriptor.digest.clone())
}

/// A blob to send; whoever sends it takes the reader.
struct Blob {
    descriptor: Descriptor,
    reader: Mutex<Option<Box<dyn Read + Send>>>,
}

/// What is sent, counted.
struct Counted<'s> {
    inner: Box<dyn Read + Send>,
    shared: &'s Shared,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.shared.add(n as u64).map_err(std::io::Error::other)?;
        Ok(n)
    }
}

fn send(client: &Client, blob: &Blob, shared: &Shared) -> Result<()> {
    let name = client.name();
    let reader = blob.reader.lock().map_or(None, |mut r| r.take());
    let blob = &blob.descriptor;
    let path = format!("blobs/{}", blob.digest);
    let there = client.ask(&Ask { method: "HEAD", path: &path, headers: Vec::new() }, || Ok(None))?;
    if there.status().as_u16() == 200 {
        return shared.add(blob.size);
    }
    let started = client.ask(
        &Ask { method: "POST", path: "blobs/uploads/", headers: vec![("Content-Length", "0".into())] },
        || Ok(Some(SendBody::none())),
    )?;
    let status = started.status().as_u16();
    let location = started.headers().get("location").and_then(|h| h.to_str().ok()).map(str::to_string);
    let text = client.text(started)?;
    check(name, status, &[202], || String::from_utf8_lossy(&text).into_owned())?;
    let location =
        location.ok_or_else(|| Error::failed(shown(name), "the registry says no place to upload to"))?;
    let url = format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, blob.digest);
    let headers = vec![
        ("Content-Type", "application/octet-stream".to_string()),
        ("Content-Length", blob.size.to_string()),
    ];
    let Some(inner) = reader else { return Err(Error::failed(blob.digest.to_string(), "was sent already")) };
    let mut counted = Counted { inner, shared };
    let mut body = Some(SendBody::from_reader(&mut counted));
    let response = client.ask(&Ask { method: "PUT", path: &url, headers }, || Ok(body.take()))?;
    let status = response.status().as_u16();
    let text = client.text(response)?;
    check(name, status, &[201, 202, 204], || String::from_utf8_lossy(&text).into_owned())
}
