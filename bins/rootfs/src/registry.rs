//! Registries; see the next piece of work.

use crate::interrupt::Interrupt;
use drydock_core::{Error, Result};
use drydock_images::oci::reference::Name;
use drydock_images::oci::{Digest, Image, Platform};

/// Options of pull and push.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {}

pub fn pull(source: &Name, _: &str, _: &Platform, _: &Options, _: &Interrupt) -> Result<Digest> {
    Err(Error::failed(source.to_string(), "registries are not asked yet"))
}

pub fn push(_: &Image, to: &Name, _: &Options, _: &Interrupt) -> Result<Digest> {
    Err(Error::failed(to.to_string(), "registries are not asked yet"))
}
