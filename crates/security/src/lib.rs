//! drydock-security.
