//! drydock-mounts.
