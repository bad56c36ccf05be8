//! OCI images: layouts, archives, the store. Sources: image-spec 1.1, Docker's `docker save` format.

pub mod blobs;
pub mod digest;
pub mod image;
pub mod layout;
pub mod pack;
pub mod reference;
pub mod spec;
pub mod store;
pub mod transfer;
pub mod tree;

pub use digest::Digest;
pub use image::Image;
pub use layout::Layout;
pub use reference::{Reference, Transport};
pub use spec::Platform;
pub use store::Store;
