//! drydock-namespaces.
