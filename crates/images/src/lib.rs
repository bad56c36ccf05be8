//! drydock-images.
