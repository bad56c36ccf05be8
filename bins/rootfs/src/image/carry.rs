//! `rootfs pull` and `rootfs push`: images into the store, and out of it.

use super::{data, platform};
use crate::interrupt::Interrupt;
use crate::progress;
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_images::oci::reference::Name;
use drydock_images::oci::{Digest, Image, Reference, Transport, transfer};
use std::path::Path;

/// Copy an image into the store: from a registry, or from oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE.
#[derive(clap::Args)]
#[command(visible_alias = "load")]
pub struct PullArgs {
    /// [HOST/]NAME[:TAG][@sha256:…] of a registry, or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE
    image: String,
    /// What to call it in the store [default: its name there]
    name: Option<String>,
    /// OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registry: crate::registry::Options,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Copy an image from the store: to a registry, or to oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME].
#[derive(clap::Args)]
#[command(visible_alias = "save")]
pub struct PushArgs {
    /// The image
    image: String,
    /// Where to [default: the registry that is in its name]
    to: Option<String>,
    /// OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registry: crate::registry::Options,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A reference where what is no path is in a registry.
fn remote(word: &str) -> Result<Reference> {
    let reference = Reference::parse(word)?;
    match (&reference.transport, word.starts_with("store:")) {
        (Transport::Store, false) => {
            let name = Name::parse(word)?.to_string();
            Ok(Reference { transport: Transport::Registry, name: Some(name) })
        }
        _ => Ok(reference),
    }
}

pub fn pull(args: &PullArgs) -> Outcome {
    let from = remote(&args.image)?;
    let platform = platform(args.platform.as_deref())?;
    if let Some(name) = &args.name {
        drydock_images::oci::reference::check_name(name)?;
    }
    let interrupt = Interrupt::hold()?;
    let (name, digest) = if from.transport == Transport::Registry {
        let source = Name::parse(from.name.as_deref().unwrap_or_default())?;
        let name = args.name.clone().unwrap_or_else(|| source.to_string());
        let digest = crate::registry::pull(&source, &name, &platform, &args.registry, &interrupt)?;
        (name, digest)
    } else {
        let image = Image::find(&from, &platform, &data()?)?;
        let name = match &args.name {
            Some(name) => name.clone(),
            None => default_name(&image, &from)?,
        };
        let to = Reference { transport: Transport::Store, name: Some(name.clone()) };
        let digest = copy(&image, &to, &interrupt)?;
        (name, digest.ok_or_else(|| Error::failed("store", "has no manifest"))?)
    };
    if args.json {
        drydock_cli::print_json(&serde_json::json!({ "image": name, "digest": digest }))?;
    } else {
        drydock_cli::print_line(&format!("{name}: {digest}"))?;
    }
    Ok(0)
}

/// What to call an image that is not given a name: what it is called there, or the file's name.
fn default_name(image: &Image, from: &Reference) -> Result<String> {
    let path = match &from.transport {
        Transport::Oci(path) | Transport::OciArchive(path) | Transport::DockerArchive(path) => path.as_path(),
        _ => Path::new(""),
    };
    let own = from.name.clone().filter(|n| !n.starts_with('@')).or_else(|| image.names.first().cloned());
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = match own {
        // A tag alone says little.
        Some(tag) if !tag.contains(['/', ':']) => match stem {
            Some(stem) => format!("{stem}:{tag}"),
            None => tag,
        },
        Some(name) => name,
        None => stem.unwrap_or_else(|| "image".into()),
    };
    drydock_images::oci::reference::check_name(&name)
        .map_err(|e| e.hint("give a name: rootfs pull SOURCE NAME"))?;
    Ok(name)
}

fn copy(image: &Image, to: &Reference, interrupt: &Interrupt) -> Result<Option<Digest>> {
    let mut bar = progress::bytes(image.size(), false);
    let mut go_on = |bytes: u64| {
        bar.at_bytes(bytes);
        !interrupt.asked()
    };
    Ok(transfer::copy(image, to, &data()?, &mut go_on)?.map(|d| d.digest))
}

pub fn push(args: &PushArgs) -> Outcome {
    let platform = platform(args.platform.as_deref())?;
    let image = Image::find(&Reference::parse(&args.image)?, &platform, &data()?)?;
    let to = match &args.to {
        Some(to) => remote(to)?,
        None => remote(image.names.last().unwrap_or(&args.image))?,
    };
    let interrupt = Interrupt::hold()?;
    let digest = if to.transport == Transport::Registry {
        let name = Name::parse(to.name.as_deref().unwrap_or_default())?;
        Some(crate::registry::push(&image, &name, &args.registry, &interrupt)?)
    } else {
        let mut to = to.clone();
        if to.name.is_none() {
            to.name = image.names.last().cloned();
        }
        copy(&image, &to, &interrupt)?
    };
    let shown = args.to.clone().unwrap_or_else(|| to.name.clone().unwrap_or_default());
    if args.json {
        drydock_cli::print_json(&serde_json::json!({ "image": shown, "digest": digest }))?;
    } else {
        let digest = digest.map_or_else(String::new, |d| format!(": {d}"));
        drydock_cli::print_line(&format!("{shown}{digest}"))?;
    }
    Ok(0)
}
