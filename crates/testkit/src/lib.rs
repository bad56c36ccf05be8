//! drydock-testkit.
