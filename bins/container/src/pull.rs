//! Which image a word means, and when it comes from a registry.

use crate::options::Options;
use drydock_core::{Error, Kind, Result};
use drydock_images::oci::reference::Name;
use drydock_images::oci::{Image, Platform, Reference, Store, Transport};
use drydock_rootfs::registry;
use std::path::Path;

/// When an image is fetched.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// If it is not in the store.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Each time; where that fails, the stored one will do.
    Newer,
    /// Not at all.
    Never,
}

/// Whether a word can only be the name of an image in a registry: `HOST/NAME`, and nothing of the kind on this machine.
pub fn is_remote(word: &str) -> bool {
    let host = word.split_once('/').map_or("", |(host, _)| host);
    let registry = host == "localhost" || (host.contains(['.', ':']) && !host.starts_with('.'));
    registry && Name::parse(word).is_ok() && !Path::new(word).exists()
}

/// The image that a word means; fetched first, if the options say so.
///
/// # Errors
/// [`Kind::BadInput`] for an image that is nowhere, or damaged; the registry's.
pub fn image(word: &str, options: &Options, data: &Path) -> Result<Image> {
    let reference = Reference::parse(word)?;
    let here = Platform::here();
    let find = |reference: &Reference| Image::find(reference, &here, data);
    let named = match reference.transport {
        Transport::Registry => reference.name.as_deref(),
        Transport::Store if !word.starts_with("store:") => Some(word),
        _ => None,
    };
    // What no registry would take as a name can only be stored.
    let Some((stored, name)) = named.and_then(|n| Some((n, Name::parse(n).ok()?))) else {
        return find(&reference);
    };
    let there = Store::at(data).entry(stored)?.is_some();
    let wanted = match options.pull {
        Pull::Missing => !there,
        Pull::Always | Pull::Newer => true,
        Pull::Never => false,
    };
    if !wanted {
        return find(&reference);
    }
    drydock_cli::output::print_error_line(&format!("container: pulling {name}"));
    match registry::fetch(&name, &here, &options.registry) {
        Ok(_) => find(&Reference { transport: Transport::Store, name: Some(name.to_string()) }),
        Err(e) if there && options.pull == Pull::Newer && e.kind() != Kind::BadInput => {
            drydock_cli::output::warn("container", &format!("{}; the stored one is taken", e.sentence()));
            find(&reference)
        }
        Err(e) => Err(remedy(e)),
    }
}

fn remedy(error: Error) -> Error {
    if error.remedy().is_some() {
        return error;
    }
    error.hint("rootfs list shows the images that are in the store")
}

#[cfg(test)]
mod tests {
    use super::is_remote;

    #[test]
    fn what_only_a_registry_can_mean() {
        for word in [
            "quay.io/a/b",
            "localhost/x",
            "localhost:5000/x",
            "127.0.0.1:5000/x",
            "r.io/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(is_remote(word), "{word}");
        }
        for word in ["sh", "bin/sh", "./a.out/x", "../x", "/bin/sh", "quay.io/Upper", "a.b/", "debian"] {
            assert!(!is_remote(word), "{word}");
        }
    }
}
