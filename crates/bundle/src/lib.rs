//! drydock-bundle.
