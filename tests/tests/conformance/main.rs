//! Conformance with the OCI runtime specification 1.3: a test a MUST, named after the anchor of its section.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

mod bundle;
mod config;
mod hooks;
mod lifecycle;
mod linux;
mod listener;
mod malformed;
mod mounts;
mod resources;
mod runtime;
mod shared;
mod usage;
mod verbs;
