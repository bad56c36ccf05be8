//! The commands for images.

pub mod carry;
pub mod change;
mod container;
pub mod fill;
pub mod keep;
pub mod look;
pub mod options;
pub mod trees;

use drydock_core::{Result, paths};
use drydock_images::oci::{Image, Platform, Reference};
use std::path::PathBuf;

/// An image of the command line, and for which machine.
#[derive(clap::Args, Clone)]
pub struct Which {
    /// oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, or a name in the store (see `rootfs list`)
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Of an image for several machines: OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
}

impl Which {
    /// Finds it.
    pub fn find(&self) -> Result<Image> {
        Image::find(&Reference::parse(&self.image)?, &platform(self.platform.as_deref())?, &data()?)
    }
}

/// `--platform`.
pub fn platform(text: Option<&str>) -> Result<Platform> {
    text.map_or_else(|| Ok(Platform::here()), Platform::parse)
}

/// Where the store is.
pub fn data() -> Result<PathBuf> {
    paths::data_root()
}
