//! drydock-cgroups.
