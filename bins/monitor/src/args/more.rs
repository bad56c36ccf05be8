//! The command line of `record`, `replay`, `serve`, `perf` and `syscalls`.

use super::interval;
use clap::Args as ClapArgs;
use drydock_core::{Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What to record.
#[derive(ClapArgs, Debug, Clone)]
pub struct Record {
    /// A new file
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub file: PathBuf,
    /// Time between two samples: seconds, or with a unit (500ms, 2s, 1m); 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "5s", allow_negative_numbers = true, value_parser = interval)]
    pub interval: Duration,
    /// So many samples, then end [default: until it is interrupted]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Every cgroup with processes, not only containers
    #[arg(short, long)]
    pub all: bool,
}

/// What to play.
#[derive(ClapArgs, Debug, Clone)]
pub struct Replay {
    /// What `monitor record` has written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// As fast as it was recorded, times this [default: all at once]
    #[arg(long, value_name = "FACTOR", num_args = 0..=1, default_missing_value = "1", value_parser = factor)]
    pub speed: Option<f64>,
    /// Sort by this column, the greatest first
    #[arg(short, long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// Only rows for which a condition on columns holds: cpu > 10 && name =~ web
    #[arg(short, long, value_name = "CONDITION")]
    pub filter: Option<String>,
    /// Columns, separated by commas; +LIST adds to the usual ones
    #[arg(short, long, value_name = "LIST")]
    pub output: Option<String>,
}

fn factor(text: &str) -> Result<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.len() < 12;
    let found = plain.then(|| text.parse::<f64>().ok()).flatten().filter(|n| (0.01..=10_000.0).contains(n));
    found.ok_or_else(|| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input("--speed", format!("'{shown}' is no factor (allowed: 0.01 to 10000)"))
    })
}

/// Where to serve what.
#[derive(ClapArgs, Debug, Clone)]
pub struct Serve {
    /// Serve http://ADDR/metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9417", value_parser = address)]
    pub prometheus: SocketAddr,
    /// ADDR may be reachable from other machines
    #[arg(long)]
    pub listen_any: bool,
    /// Every cgroup with processes, not only containers
    #[arg(short, long)]
    pub all: bool,
}

fn address(text: &str) -> Result<SocketAddr> {
    // `:9417` and `9417` mean this machine alone.
    let port = text.strip_prefix(':').unwrap_or(text);
    let local = port.parse::<u16>().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let named = text.strip_prefix("localhost:").and_then(|p| p.parse().ok());
    let named = named.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    local.or(named).or_else(|| text.parse().ok()).ok_or_else(|| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 60);
        Error::bad_input(
            "--prometheus",
            format!("'{shown}' is no address (allowed: 127.0.0.1:9417, [::1]:9417, :9417)"),
        )
    })
}

/// How long to count.
#[derive(ClapArgs, Debug, Clone)]
pub struct Counting {
    /// Process or container
    #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
    pub target: String,
    /// How long: seconds, or with a unit; 100ms to 1h
    #[arg(short, long, value_name = "TIME", default_value = "1s", allow_negative_numbers = true, value_parser = interval)]
    pub time: Duration,
}
