//! The verbs of `container`, one a file.

pub mod audit;
pub mod criu;
pub mod delete;
pub mod demo;
pub mod doctor;
mod event_stats;
pub mod events;
pub mod exec;
mod life_events;
pub mod list;
pub mod ns;
pub mod oci;
pub mod pause;
pub mod plan;
pub mod processes;
mod ps_columns;
pub mod run;
pub mod show;
pub mod signals;
pub mod timings;
pub mod unshare;
pub mod up;
pub mod update;
mod update_rdt;
mod when;
pub mod why;
