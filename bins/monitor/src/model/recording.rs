//! Statistics in a file: a few bytes for each container and sample, because only what has changed is written.
//!
//! After the heading `drydock-monitor 1\n` come samples, each with its length before it, so that one that was cut off is left
//! out. A sample: milliseconds since the epoch, the number of rows, and for each row the number of its name (and the name
//! itself, with who made it, when it is new) and its figures, each as the difference to the row's last one. Numbers are
//! LEB128, differences zigzag; a figure is stored one higher, so that 0 is "not enabled".

use super::sampler::Row;
use super::usage::{Reading, between};
use drydock_cgroups::{Io, PressureLine, Stats};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const HEADING: &[u8] = b"drydock-monitor 1\n";
/// No sample is longer; a longer one is no recording.
const MAX_SAMPLE: u64 = 64 << 20;
/// A name is a path at the most.
const MAX_NAME: usize = 8192;
/// Figures of a row.
const FIGURES: usize = 24;

type Figures = [Option<u64>; FIGURES];

fn figures(row: &Row) -> Figures {
    let s = &row.usage.stats;
    let io =
        |pick: fn(&Io) -> u64| s.io.as_ref().map(|all| all.values().map(pick).fold(0, u64::saturating_add));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // hundredths of a per cent
    let psi = |r: &str| s.pressure.get(r)?.some.as_ref().map(|l| (l.avg10 * 100.0) as u64);
    let net = row.network.as_ref().filter(|n| !n.shared);
    [
        Some(row.nprocs as u64),
        row.pid.map(u64::from),
        s.cpu.usage_us,
        s.cpu.nr_periods,
        s.cpu.nr_throttled,
        s.cpu.throttled_us,
        s.memory.current,
        s.memory.peak,
        s.memory.max,
        s.memory.swap,
        s.memory.anon,
        s.memory.file,
        s.memory.kernel,
        s.memory.shmem,
        s.memory.oom_kill,
        s.pids.current,
        s.pids.max,
        io(|io| io.rbytes),
        io(|io| io.wbytes),
        psi("cpu"),
        psi("memory"),
        psi("io"),
        net.map(|n| n.rx_bytes),
        net.map(|n| n.tx_bytes),
    ]
}

/// Writes a recording.
pub struct Recorder {
    file: File,
    names: HashMap<String, (u64, Figures)>,
}

impl Recorder {
    /// A new file.
    ///
    /// # Errors
    /// open(2)'s; EEXIST for one that is there.
    pub fn create(path: &Path) -> Result<Self> {
        let shown = drydock_core::text::escape(&path.display().to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
        let mut file = file.call(|| format!("open(\"{shown}\", O_WRONLY|O_CREAT|O_EXCL)")).map_err(|e| {
            if e.errno() == Some(nix::libc::EEXIST) {
                return Error::bad_input(shown.clone(), "is there already (allowed: a new file)");
            }
            e
        })?;
        file.write_all(HEADING).call(|| "write(recording)")?;
        Ok(Self { file, names: HashMap::new() })
    }

    /// Adds a sample, by one write.
    ///
    /// # Errors
    /// write(2)'s.
    pub fn add(&mut self, time_ms: u64, rows: &[Row]) -> Result<()> {
        let mut body = Vec::new();
        number(&mut body, time_ms);
        number(&mut body, rows.len() as u64);
        for row in rows {
            let next = self.names.len() as u64;
            let known = self.names.contains_key(&row.name);
            let (index, last) = self.names.entry(row.name.clone()).or_insert((next, [None; FIGURES]));
            number(&mut body, *index);
            if !known {
                let kind = format!(
                    "{}\n{}\n{}\n{}",
                    row.name,
                    row.runtime.unwrap_or(""),
                    row.id.as_deref().unwrap_or(""),
                    u8::from(row.is_container)
                );
                number(&mut body, kind.len() as u64);
                body.extend_from_slice(kind.as_bytes());
            }
            let now = figures(row);
            for (new, old) in now.iter().zip(last.iter_mut()) {
                let stored = |n: Option<u64>| n.map_or(0, |n| n.saturating_add(1));
                let delta = stored(*new).wrapping_sub(stored(*old)).cast_signed();
                number(&mut body, ((delta << 1) ^ (delta >> 63)).cast_unsigned());
                *old = *new;
            }
        }
        let mut sample = Vec::with_capacity(body.len() + 4);
        number(&mut sample, body.len() as u64);
        sample.extend_from_slice(&body);
        self.file.write_all(&sample).call(|| "write(recording)")
    }
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let low = u8::try_from(n & 0x7f).unwrap_or(0);
        n >>= 7;
        if n == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads a recording.
pub struct Player {
    rest: Vec<u8>,
    at: usize,
    rows: Vec<Known>,
    start: Instant,
}

struct Known {
    name: String,
    runtime: Option<&'static str>,
    id: Option<String>,
    container: bool,
    last: Figures,
    before: Option<(u64, Stats)>,
}

/// A sample that was read back.
#[derive(Debug)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// Rows, with rates since the sample before.
    pub rows: Vec<Row>,
}

impl Player {
    /// Opens a recording.
    ///
    /// # Errors
    /// Bad input when it is none.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = drydock_core::text::escape(&path.display().to_string());
        let flags = nix::libc::O_NONBLOCK;
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::bad_input(shown.clone(), "no such file"),
                _ => Error::call(format!("open(\"{shown}\", O_RDONLY)"), e),
            })?;
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(Error::bad_input(shown, "not a regular file"));
        }
        let mut rest = Vec::new();
        file.take(4 << 30).read_to_end(&mut rest).call(|| format!("read(\"{shown}\")"))?;
        if !rest.starts_with(HEADING) {
            return Err(Error::bad_input(
                shown,
                "not a recording (allowed: a file that monitor record has written)",
            ));
        }
        Ok(Self { rest, at: HEADING.len(), rows: Vec::new(), start: Instant::now() })
    }

    /// The next sample; `None` at the end, also where the last one was cut off or makes no sense.
    pub fn next_sample(&mut self) -> Option<Sample> {
        let bytes = std::mem::take(&mut self.rest);
        let mut cursor = Cursor { bytes: &bytes, at: self.at };
        let sample = self.read(&mut cursor);
        self.at = cursor.at;
        self.rest = bytes;
        sample
    }

    fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<Sample> {
        let length = cursor.number().filter(|n| *n <= MAX_SAMPLE)?;
        let end = cursor.at.checked_add(usize::try_from(length).ok()?)?;
        let body = cursor.bytes.get(cursor.at..end)?;
        let mut body = Cursor { bytes: body, at: 0 };
        cursor.at = end;
        let time_ms = body.number()?;
        let count = body.number()?;
        let mut rows = Vec::new();
        for _ in 0..count {
            let index = usize::try_from(body.number()?).ok()?;
            if index == self.rows.len() {
                self.rows.push(body.known()?);
            }
            let known = self.rows.get_mut(index)?;
            for slot in &mut known.last {
                let zigzag = body.number()?;
                let delta = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
                let stored = slot.map_or(0, |n| n.saturating_add(1)).wrapping_add(delta.cast_unsigned());
                *slot = stored.checked_sub(1);
            }
            rows.push(known.row(time_ms, self.start));
        }
        Some(Sample { time_ms, rows })
    }
}

impl Known {
    fn row(&mut self, time_ms: u64, start: Instant) -> Row {
        let f = |n: usize| self.last.get(n).copied().flatten();
        let mut stats = Stats::default();
        (stats.cpu.usage_us, stats.cpu.nr_periods) = (f(2), f(3));
        (stats.cpu.nr_throttled, stats.cpu.throttled_us) = (f(4), f(5));
        let memory = &mut stats.memory;
        (memory.current, memory.peak, memory.max, memory.swap) = (f(6), f(7), f(8), f(9));
        (memory.anon, memory.file, memory.kernel, memory.shmem) = (f(10), f(11), f(12), f(13));
        memory.oom_kill = f(14);
        (stats.pids.current, stats.pids.max) = (f(15), f(16));
        stats.io = f(17).zip(f(18)).map(|(rbytes, wbytes)| {
            BTreeMap::from([("all".to_string(), Io { rbytes, wbytes, ..Io::default() })])
        });
        for (name, n) in [("cpu", 19), ("memory", 20), ("io", 21)] {
            #[allow(clippy::cast_precision_loss)] // hundredths
            let line = |n: u64| PressureLine { avg10: n as f64 / 100.0, ..PressureLine::default() };
            if let Some(some) = f(n).map(line) {
                let pressure = drydock_cgroups::Pressure { some: Some(some), full: None };
                stats.pressure.insert(name.to_string(), pressure);
            }
        }
        // Times of the recording stand for times of the clock that rates are made of.
        let (old_time, old) = self.before.take().unwrap_or_else(|| (time_ms, stats.clone()));
        let passed = Duration::from_millis(time_ms.saturating_sub(old_time).min(1 << 40));
        let (old, now) =
            (Reading::then(start, Some(old)), Reading::then(start + passed, Some(stats.clone())));
        let usage = between(&old, &now);
        self.before = Some((time_ms, stats));
        let network = f(22).zip(f(23)).map(|(rx_bytes, tx_bytes)| super::network::Traffic {
            rx_bytes,
            tx_bytes,
            ..super::network::Traffic::default()
        });
        Row {
            name: self.name.clone(),
            container: (self.runtime == Some("drydock")).then(|| self.name.clone()),
            runtime: self.runtime,
            id: self.id.clone(),
            is_container: self.container,
            path: String::new(),
            pid: f(1).and_then(|n| u32::try_from(n).ok()),
            nprocs: usize::try_from(f(0).unwrap_or(0)).unwrap_or(0),
            pids: Vec::new(),
            directories: Vec::new(),
            counted_by: "cgroup",
            memory_headroom: None,
            network,
            usage,
        }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            n |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn known(&mut self) -> Option<Known> {
        let length = usize::try_from(self.number()?).ok().filter(|n| *n <= MAX_NAME)?;
        let end = self.at.checked_add(length)?;
        let text = String::from_utf8_lossy(self.bytes.get(self.at..end)?).into_owned();
        self.at = end;
        let mut words = text.split('\n');
        let name = words.next()?.to_string();
        let runtime = words.next().and_then(known_runtime);
        let id = words.next().filter(|id| !id.is_empty()).map(str::to_string);
        let container = words.next() == Some("1");
        Some(Known { name, runtime, id, container, last: [None; FIGURES], before: None })
    }
}

/// The names of engines that we know; a file may hold anything.
fn known_runtime(word: &str) -> Option<&'static str> {
    const ALL: [&str; 15] = [
        "drydock",
        "docker",
        "podman",
        "containerd",
        "cri-o",
        "kubernetes",
        "lxc",
        "nspawn",
        "libvirt",
        "nomad",
        "runc",
        "crun",
        "youki",
        "systemd",
        "namespace",
    ];
    ALL.into_iter().find(|known| *known == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cpu: Option<u64>, memory: u64) -> Row {
        let mut stats = Stats::default();
        stats.cpu.usage_us = cpu;
        stats.memory.current = Some(memory);
        let reading = Reading::of(Some(stats));
        let mut known = Known {
            name: name.into(),
            runtime: Some("docker"),
            id: None,
            container: true,
            last: [None; FIGURES],
            before: None,
        };
        let mut row = known.row(0, Instant::now());
        row.usage = between(&reading, &reading);
        row.nprocs = 3;
        row
    }

    #[test]
    fn what_was_recorded_is_played_with_rates() {
        let dir = std::env::temp_dir().join(format!("drydock-recording-{}", std::process::id()));
        let _ = std::fs::remove_file(&dir);
        let mut recorder = Recorder::create(&dir).unwrap();
        recorder.add(1000, &[row("a", Some(0), 5), row("b\n", None, u64::MAX)]).unwrap();
        recorder.add(3000, &[row("b\n", None, 1), row("a", Some(1_000_000), 4)]).unwrap();
        recorder.add(4000, &[row("a", Some(500_000), 4)]).unwrap();
        assert_eq!(Recorder::create(&dir).err().unwrap().exit_code(), 2, "it is there");
        let bytes = std::fs::read(&dir).unwrap();
        assert!(bytes.len() < 250, "{}", bytes.len());
        let mut player = Player::open(&dir).unwrap();
        let first = player.next_sample().unwrap();
        assert_eq!(
            (first.time_ms, first.rows[0].name.as_str(), first.rows[0].usage.stats.memory.current),
            (1000, "a", Some(5))
        );
        let second = player.next_sample().unwrap();
        let a = &second.rows[1];
        assert_eq!((a.usage.cpu_percent, a.nprocs, a.runtime), (Some(50.0), 3, Some("docker")));
        assert_eq!(second.rows[0].usage.stats.cpu.usage_us, None, "not enabled stays so");
        let third = player.next_sample().unwrap();
        assert_eq!(third.rows[0].usage.cpu_percent, None, "the counter went back");
        assert!(player.next_sample().is_none());
        // Every beginning of the file, and every byte turned, is read without harm.
        for cut in HEADING.len()..bytes.len() {
            std::fs::write(&dir, &bytes[..cut]).unwrap();
            let mut player = Player::open(&dir).unwrap();
            while player.next_sample().is_some() {}
            let mut turned = bytes.clone();
            turned[cut] ^= 0xff;
            std::fs::write(&dir, &turned).unwrap();
            let mut player = Player::open(&dir).unwrap();
            for _ in 0..10 {
                let _ = player.next_sample();
            }
        }
        std::fs::write(&dir, "something else").unwrap();
        assert_eq!(Player::open(&dir).err().unwrap().exit_code(), 2);
        std::fs::remove_file(dir).unwrap();
    }
}
