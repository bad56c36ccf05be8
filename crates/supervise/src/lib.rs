//! drydock-supervise.
