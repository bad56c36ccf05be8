//! Root inside with CAP_SYS_PTRACE: takes hold of every process that appears, and says what it has got. Runs in the container,
//! as the tests' own executable; it knows nothing but what it sees there.

use nix::sys::ptrace;
use nix::unistd::Pid;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A variable in the environment of whoever calls the runtime on the host.
pub const SECRET: &str = "DRYDOCK_SECRET_OF_THE_CALLER";

/// A path of the host; the container does not have it.
pub const MARKER: &str = "MARKER";

/// Device and inode number of the runtime's program.
pub const PROGRAM: &str = "PROGRAM";

fn status(pid: i32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

/// For ever.
pub fn attack() {
    let marker = std::env::var(MARKER).unwrap_or_default();
    let own = status(1, "CapBnd").unwrap_or(0) | status(own_pid(), "CapBnd").unwrap_or(0);
    let filtered = status(own_pid(), "Seccomp") == Some(2);
    say("READY");
    let mut last = own_pid();
    loop {
        // Numbers are given one after the other.
        let Some(pid) = (last + 1..last + 16)
            .find(|pid| ptrace::seize(Pid::from_raw(*pid), ptrace::Options::empty()).is_ok())
        else {
            continue;
        };
        last = pid;
        let _ = ptrace::interrupt(Pid::from_raw(pid));
        let mut got: Vec<String> = look(pid, own, filtered, &marker);
        got.sort();
        got.dedup();
        say(&format!("SEEN {}", got.join(" ")));
        let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::__WALL));
        let _ = ptrace::detach(Pid::from_raw(pid), None);
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn look(pid: i32, own: u64, filtered: bool, marker: &str) -> Vec<String> {
    let mut got = Vec::new();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        if status(pid, set).is_some_and(|caps| caps & !own != 0) {
            got.push(set.to_string());
        }
    }
    if filtered && status(pid, "Seccomp") == Some(0) {
        got.push("unfiltered".into());
    }
    let here = |way: String| Path::new(&way).exists();
    if here(format!("/proc/{pid}/root{marker}")) || here(format!("/proc/{pid}/cwd{marker}")) {
        got.push("root".into());
    }
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let way = fd.path();
        let up = way.join("../../../../../../../..");
        if up.join(marker.trim_start_matches('/')).exists()
            || way.join(marker.trim_start_matches('/')).exists()
        {
            let leads = std::fs::read_link(&way).unwrap_or_default();
            got.push(format!("descriptor:{}", leads.display()));
        }
    }
    if std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| contains(&text, SECRET.as_bytes())) {
        got.push("environment".into());
    }
    if memory(pid, SECRET.as_bytes()) {
        got.push("memory".into());
    }
    if writable(&format!("/proc/{pid}/exe")) {
        got.push("program".into());
    }
    got
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Whether the word is in memory that can be written: heap, stack.
fn memory(pid: i32, word: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(mut mem) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return false };
    let areas = maps.lines().filter(|line| line.contains("[heap]") || line.contains("[stack]"));
    areas.into_iter().any(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let Some((from, to)) = range.map(|(a, b)| (number(a), number(b))) else { return false };
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        mem.seek(SeekFrom::Start(from)).is_ok() && mem.read(&mut bytes).is_ok() && contains(&bytes, word)
    })
}

/// Whether it is the runtime's file, and could be overwritten by somebody who keeps a descriptor of it.
fn writable(link: &str) -> bool {
    let Ok(file) = std::fs::File::open(link) else { return false };
    let id = file.metadata().map(|meta| format!("{}:{}", meta.dev(), meta.ino()));
    if id.ok() != std::env::var(PROGRAM).ok() {
        return false;
    }
    let read_only = nix::sys::statvfs::fstatvfs(&file)
        .is_ok_and(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    let sealed =
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & 8 != 0);
    !read_only && !sealed
}
