//! The columns of ps(1), read from /proc: `container ps` starts no other program.

use drydock_core::text::escape;
use drydock_core::{Error, Result};
use drydock_monitor::model::processes::Row;
use drydock_monitor::procfs::{Proc, stat};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One column: its names for `-o`, its header, whether it is a number, and what it shows.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    names: &'static [&'static str],
    header: &'static str,
    number: bool,
    value: fn(&Shown) -> String,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

/// A process with what the columns need.
#[derive(Debug)]
pub struct Shown {
    row: Row,
    stat: stat::Stat,
    /// Since the epoch, UTC.
    started: Duration,
    lived: Duration,
}

const COLUMNS: [Column; 17] = [
    Column { names: &["user", "euser", "uname"], header: "USER", number: false, value: Shown::user },
    Column { names: &["uid", "euid"], header: "UID", number: true, value: |p| or_dash(p.row.uid) },
    Column { names: &["pid"], header: "PID", number: true, value: |p| p.row.pid.to_string() },
    Column { names: &["ppid"], header: "PPID", number: true, value: |p| p.row.ppid.to_string() },
    Column {
        names: &["c"],
        header: "C",
        number: true,
        value: |p| format!("{:.0}", p.row.cpu_percent.clamp(0.0, 99.0).floor()),
    },
    Column {
        names: &["pcpu", "%cpu"],
        header: "%CPU",
        number: true,
        value: |p| format!("{:.1}", p.row.cpu_percent),
    },
    Column {
        names: &["pmem", "%mem"],
        header: "%MEM",
        number: true,
        value: |p| format!("{:.1}", p.row.memory_percent),
    },
    Column {
        names: &["vsz", "vsize"],
        header: "VSZ",
        number: true,
        value: |p| (p.stat.vsize / 1024).to_string(),
    },
    Column {
        names: &["rss", "rssize"],
        header: "RSS",
        number: true,
        value: |p| (p.row.rss_bytes / 1024).to_string(),
    },
    Column {
        names: &["nlwp", "thcount"],
        header: "NLWP",
        number: true,
        value: |p| p.row.threads.to_string(),
    },
    Column { names: &["tty", "tt", "tname"], header: "TTY", number: false, value: |p| terminal(p.stat.tty) },
    Column { names: &["stat", "state", "s"], header: "STAT", number: false, value: Shown::state },
    Column { names: &["stime", "start", "start_time"], header: "STIME", number: false, value: Shown::start },
    Column { names: &["etime"], header: "ELAPSED", number: true, value: |p| clock(p.lived.as_secs(), false) },
    Column { names: &["time", "cputime"], header: "TIME", number: true, value: |p| clock(p.used(), true) },
    Column { names: &["comm", "ucmd"], header: "COMMAND", number: false, value: |p| p.row.comm.clone() },
    Column {
        names: &["args", "cmd", "command"],
        header: "CMD",
        number: false,
        value: |p| p.row.command.clone(),
    },
];

/// The columns that these options ask ps(1) for. Which processes they select is no matter: they are the container's.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for what is not one of -e -f -A a u x and -o.
pub fn parse(options: &[&str]) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    let (mut full, mut user, mut bsd) = (options.is_empty(), false, false);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let letters = word.strip_prefix('-').unwrap_or(word);
        for (at, letter) in letters.char_indices() {
            match letter {
                'f' if word.starts_with('-') => full = true,
                'e' | 'A' | 'a' | 'w' | 'f' => bsd |= !word.starts_with('-'),
                'x' => bsd = true,
                'u' => user = true,
                'o' => {
                    let rest = letters.get(at + 1..).unwrap_or_default();
                    let list = if rest.is_empty() { words.next().copied().unwrap_or_default() } else { rest };
                    named(list, &mut columns)?;
                    break;
                }
                _ => return Err(unknown(word)),
            }
        }
    }
    if !columns.is_empty() {
        return Ok(columns);
    }
    let (list, first) = match (user, full, bsd) {
        (true, ..) => ("user,pid,%cpu,%mem,vsz,rss,tty,stat,start,time,args", None),
        (_, true, _) => ("user,pid,ppid,c,stime,tty,time,args", Some("UID")),
        (_, _, true) => ("pid,tty,stat,time,args", None),
        _ => ("pid,tty,time,comm", None),
    };
    named(list, &mut columns)?;
    // ps calls the same columns by other names here.
    for column in &mut columns {
        match (column.header, first) {
            ("USER", Some(name)) => column.header = name,
            ("CMD", None) => column.header = "COMMAND",
            ("COMMAND", None) => column.header = "CMD",
            ("STIME", None) => column.header = "START",
            _ => {}
        }
    }
    Ok(columns)
}

fn named(list: &str, columns: &mut Vec<Column>) -> Result<()> {
    for name in list.split(',') {
        let lower = name.to_ascii_lowercase();
        let found = COLUMNS.iter().find(|c| c.names.contains(&lower.as_str()));
        columns.push(*found.ok_or_else(|| {
            let all: Vec<&str> = COLUMNS.iter().filter_map(|c| c.names.first().copied()).collect();
            Error::bad_input(
                "-o",
                format!("'{}' is not a column (allowed: {})", escape(name), all.join(", ")),
            )
        })?);
    }
    Ok(())
}

fn unknown(word: &str) -> Error {
    Error::bad_input(
        "ps options",
        format!("'{}' is not understood (allowed: -e, -f, -A, a, u, x, and -o COLUMN,…)", escape(word)),
    )
}

/// Numbers to the right, the rest to the left, the last column as long as it is.
pub fn table(columns: &[Column], processes: &[Shown]) -> String {
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|c| c.header.to_string()).collect()];
    rows.extend(processes.iter().map(|p| columns.iter().map(|c| escape(&(c.value)(p))).collect()));
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    // As wide as ps(1) has them.
    let least = |i: usize| columns.get(i).is_some_and(|c| matches!(c.header, "PID" | "PPID"));
    let widths = (0..columns.len()).map(|i| width(i).max(if least(i) { 7 } else { 0 }));
    let widths: Vec<usize> = widths.collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(columns).map(|((cell, width), column)| match column.number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join(" ").trim_end());
        text.push('\n');
    }
    text
}

impl Shown {
    /// Reads what the row does not have; `None` when the process has gone.
    pub fn read(proc: &Proc, row: Row) -> Option<Self> {
        let stat = stat::parse(&proc.line(&format!("{}/stat", row.pid)).ok()?)?;
        let uptime: f64 = proc.text("uptime").ok()?.split_whitespace().next()?.parse().ok()?;
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let start = Duration::from_millis(stat.start.saturating_mul(1000) / ticks);
        let lived = Duration::try_from_secs_f64(uptime).ok()?.saturating_sub(start);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Some(Self { row, stat, started: now.saturating_sub(lived), lived })
    }

    fn user(&self) -> String {
        let name = self.row.uid.and_then(drydock_namespaces::subid::user_name);
        name.unwrap_or_else(|| or_dash(self.row.uid))
    }

    /// s: it leads a session; l: it has threads.
    fn state(&self) -> String {
        let leads = i64::from(self.stat.session) == i64::from(self.row.pid);
        let threads = self.row.threads > 1;
        format!("{}{}{}", self.row.state, if leads { "s" } else { "" }, if threads { "l" } else { "" })
    }

    /// `HH:MM` within a day, else the month and day, in UTC.
    fn start(&self) -> String {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let text = drydock_supervise::log::timestamp(self.started);
        if self.lived < Duration::from_secs(86_400) {
            return text.get(11..16).unwrap_or_default().to_string();
        }
        let month: usize = text.get(5..7).and_then(|m| m.parse().ok()).unwrap_or(1);
        let begin = month.saturating_sub(1) * 3;
        let name = MONTHS.get(begin..begin + 3).unwrap_or_default();
        format!("{name}{}", text.get(8..10).unwrap_or_default())
    }

    /// Processor time, in whole seconds.
    fn used(&self) -> u64 {
        self.stat.utime.saturating_add(self.stat.stime) / rustix::param::clock_ticks_per_second().max(1)
    }
}

fn or_dash(number: Option<u32>) -> String {
    number.map_or("-".to_string(), |n| n.to_string())
}

/// `[DD-]HH:MM:SS`; `MM:SS` where short ones are wanted.
fn clock(seconds: u64, hours_always: bool) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) if !hours_always => rest,
        (0, _) => format!("{hours:02}:{rest}"),
        _ => format!("{days}-{hours:02}:{rest}"),
    }
}

/// The terminal's name by its device number: 136 to 143 are pseudoterminals, 4 consoles and serial lines.
fn terminal(device: i32) -> String {
    let device = u64::from(device.cast_unsigned());
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    match major {
        0 => "?".to_string(),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => format!("{major},{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(options: &[&str]) -> String {
        parse(options).unwrap().iter().map(|c| c.header).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn headers_are_those_of_ps() {
        assert_eq!(headers(&[]), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(headers(&["-ef"]), headers(&["-e", "-f"]));
        assert_eq!(headers(&["-ef"]), headers(&[]));
        assert_eq!(headers(&["-e", "-x"]), "PID TTY STAT TIME COMMAND");
        assert_eq!(headers(&["aux"]), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(headers(&["-e"]), "PID TTY TIME CMD");
        assert_eq!(headers(&["-eo", "pid,comm,etime"]), "PID COMMAND ELAPSED");
        for wrong in [&["--sort=pid"][..], &["-o"], &["-opid,nope"], &["-l"], &["-ü"], &["-o", ""]] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn clocks_and_terminals() {
        assert_eq!(clock(3661, true), "01:01:01");
        assert_eq!(clock(61, false), "01:01");
        assert_eq!(clock(90_061, true), "1-01:01:01");
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(34816), "pts/0");
        assert_eq!(terminal(34817 + (1 << 20)), "pts/257");
        assert_eq!(terminal(1025), "tty1");
    }
}
