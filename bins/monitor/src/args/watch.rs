//! The command line of what is measured: `stats` and `top`.

use clap::Args as ClapArgs;
use drydock_core::{Error, Result};
use std::time::Duration;

pub(super) const TOP_HELP: &str = "Keys: q quits, arrows select, Enter shows limits, pressure and processes, e opens a shell in\nthe selected container, s sorts by the next column, \
/ filters,\nc chooses columns, t shows the tree, ? all keys.\n\n\
Columns: NAME RUNTIME PID PROCS CPU% THR% MEMORY MEM% LIMIT HEADROOM PEAK ANON FILE KERNEL SHMEM SWAP READ/S WRITE/S RX/S TX/S\n\
PIDS PSI-CPU PSI-MEM PSI-IO OOM ID PATH\n\n\
Examples:\n  monitor top --once --sort memory\n  monitor top --filter 'cpu > 10 && container == true'\n  monitor top -b -n 3 -o +THR%,OOM";

/// How often to look.
#[derive(ClapArgs, Debug, Clone)]
pub struct Sampling {
    /// Print once and end
    #[arg(long, visible_alias = "no-stream")]
    pub once: bool,
    /// Time between two looks: seconds, or with a unit (500ms, 2s, 1m); 100ms to 1h [default: 1s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = interval)]
    interval: Option<Duration>,
}

impl Sampling {
    /// Time between two looks.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(1))
    }
}

/// Whose resources, and how.
#[derive(ClapArgs, Debug, Clone)]
pub struct Stats {
    /// Processes or containers, of any engine [default: all containers]
    #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
    pub targets: Vec<String>,
    /// Every cgroup with processes, not only containers
    #[arg(short, long, conflicts_with = "targets")]
    pub all: bool,
    /// So many samples, then end
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// How to sample
    #[command(flatten)]
    pub sampling: Sampling,
}

impl Stats {
    /// How many samples; `None`: again and again, as on a terminal, or where an interval was given.
    pub fn samples(&self) -> Option<u32> {
        use std::io::IsTerminal;
        let once = self.sampling.once
            || self.count.is_none() && self.sampling.interval.is_none() && !std::io::stdout().is_terminal();
        if once { Some(1) } else { self.count }
    }
}

/// What `top` shows.
#[derive(ClapArgs, Debug, Clone)]
pub struct Top {
    /// How to sample
    #[command(flatten)]
    pub sampling: Sampling,
    /// Sort by this column, the greatest first
    #[arg(short, long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// The other way round
    #[arg(short, long)]
    pub reverse: bool,
    /// Only rows for which a condition on columns holds: cpu > 10 && name =~ web
    #[arg(short, long, value_name = "CONDITION")]
    pub filter: Option<String>,
    /// Columns, separated by commas; +LIST adds to the usual ones
    #[arg(short, long, visible_alias = "columns", value_name = "LIST")]
    pub output: Option<String>,
    /// Containers only, no services and sessions
    #[arg(short, long)]
    pub containers: bool,
    /// As a tree of cgroups (full screen)
    #[arg(short, long)]
    pub tree: bool,
    /// Begin with the pane about the first row open (full screen)
    #[arg(short, long)]
    pub details: bool,
    /// Print tables again and again instead of a full screen
    #[arg(short, long)]
    pub batch: bool,
    /// So many samples, then end
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Print one full screen of this size as text
    #[arg(long, value_name = "COLUMNSxLINES", value_parser = size, conflicts_with_all = ["batch", "count"])]
    pub snapshot: Option<(usize, usize)>,
}

fn size(text: &str) -> Result<(usize, usize)> {
    let number = |text: &str| text.parse().ok().filter(|n| (1..=1000).contains(n));
    let found = text.split_once('x').and_then(|(w, h)| Some((number(w)?, number(h)?)));
    found.ok_or_else(|| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input(
            "--snapshot",
            format!("'{shown}' is no size (allowed: 1x1 to 1000x1000, such as 100x30)"),
        )
    })
}

/// Parses an interval.
///
/// # Errors
/// Bad input with what is allowed.
pub fn interval(text: &str) -> Result<Duration> {
    let wrong = || {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input(
            "--interval",
            format!("'{shown}' is not a time (allowed: 100ms to 1h, as 2, 0.5, 500ms, 2s, 1m)"),
        )
    };
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let with_unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = with_unit.unwrap_or((text, 1.0));
    let plain =
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.') && number.len() < 20;
    let seconds = plain.then(|| number.parse::<f64>().ok()).flatten().map(|n| n * factor);
    let fits = seconds.filter(|s| (0.099_999..=3600.0).contains(s));
    fits.map(Duration::from_secs_f64).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, ms) in
            [("1", 1000), ("0.5", 500), ("500ms", 500), ("2s", 2000), ("1m", 60_000), ("100ms", 100)]
        {
            assert_eq!(interval(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in
            ["", "0", "-1", "abc", "1ns", "1e12", "99ms", "61m", "inf", "NaN", ".", "s", "1.2.3", "1 s", "١"]
        {
            assert_eq!(interval(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
