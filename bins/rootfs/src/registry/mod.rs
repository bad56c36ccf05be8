//! Registries: images pulled into the store and pushed from it. Source: distribution-spec 1.1.

mod auth;
mod client;
pub mod login;
mod names;
mod pull;
mod push;
mod work;

pub use pull::pull;
pub use push::push;

use crate::interrupt::Interrupt;
use drydock_core::{Error, Result};
use drydock_images::oci::reference::Name;
use drydock_images::oci::{Digest, Platform};
use std::path::PathBuf;

/// How registries are spoken to.
#[derive(clap::Args, Clone, Debug)]
pub struct Access {
    /// File with the registries' passwords, as docker login and podman login write it [default: $REGISTRY_AUTH_FILE,
    /// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json, ~/.docker/config.json]
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    authfile: Option<PathBuf>,
    /// File with further certificates of authorities, PEM
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    ca: Option<PathBuf>,
    /// false: take any certificate, and plain HTTP where there is no TLS (always for this machine's own registries)
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, help_heading = "Registry")]
    tls_verify: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self { authfile: None, ca: None, tls_verify: true }
    }
}

/// Options of pull and push.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    access: Access,
    /// Layers at a time
    #[arg(long, value_name = "N", default_value_t = PARALLEL, value_parser = clap::value_parser!(u8).range(1..=32), help_heading = "Registry")]
    parallel: u8,
}

/// Layers at a time, unless told otherwise.
const PARALLEL: u8 = 4;

/// Pulls an image into the store under its whole name, `HOST/REPOSITORY:TAG`, as `rootfs pull` does. A signal that asks to
/// end stops it; what has come by then is kept, and gone on with the next time.
///
/// # Errors
/// No registry, no image, no platform, no permission; another digest than announced.
pub fn fetch(name: &Name, platform: &Platform, access: &Access) -> Result<Digest> {
    let interrupt = Interrupt::hold()?;
    let options = Options { access: access.clone(), parallel: PARALLEL };
    pull(name, &name.to_string(), platform, &options, &interrupt)
}

/// What an error is about.
fn shown(name: &Name) -> String {
    format!("image '{name}'")
}

/// An answer that is not what was asked for.
fn refused(name: &Name, status: u16, body: &str) -> Error {
    let body = drydock_core::text::shorten(&drydock_core::text::escape(body.trim()), 300);
    let problem = match status {
        401 | 403 => format!("the registry does not allow it (HTTP {status})"),
        404 => "is not in the registry (HTTP 404)".to_string(),
        429 => "the registry says: too many requests (HTTP 429)".to_string(),
        _ => format!("the registry answered HTTP {status}: {body}"),
    };
    let error = Error::failed(shown(name), problem);
    match status {
        401 | 403 => error.hint("a private image needs a login: rootfs login HOST, or --authfile FILE"),
        _ => error,
    }
}

fn check(name: &Name, status: u16, wanted: &[u16], body: impl FnOnce() -> String) -> Result<()> {
    if wanted.contains(&status) { Ok(()) } else { Err(refused(name, status, &body())) }
}
