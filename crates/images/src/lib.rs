//! drydock-images: root file systems, made from what the host has.
//!
//! - [`view`]: reads paths as they look from a root directory, the host's or another, never leaving it;
//! - [`root`]: writes inside a root directory, through its descriptor, never leaving it;
//! - [`elf`]: which files a program needs to run, found without running it;
//! - [`copy`]: programs and all they need into a root (`Request → Plan → Report`);
//! - [`skeleton`]: the directories and few files that every root has;
//! - [`busybox`]: a root out of one static file;
//! - [`check`]: what the programs of a root lack;
//! - [`unpack`]: archives and layers into a directory, however hostile they are;
//! - [`oci`]: images: layouts, archives, the store, layers packed;
//! - [`recipe`]: root file systems as data; [`default`]: the one that containers share.

pub mod busybox;
pub mod check;
pub mod copy;
pub mod default;
pub mod elf;
pub mod oci;
pub mod recipe;
pub mod root;
pub mod skeleton;
pub mod unfinished;
pub mod unpack;
pub mod view;

pub use default::{DefaultRootfs, default_path, default_rootfs};
