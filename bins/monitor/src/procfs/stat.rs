//! `/proc/PID/stat`: the numbers that ps shows. Source: proc_pid_stat(5).

/// The fields that we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Command name as the process or the kernel set it (at most 15 bytes; more for kernel threads).
    pub comm: String,
    /// R, S, D, Z, T, t, X, I …
    pub state: char,
    /// Parent.
    pub ppid: u32,
    /// Session: the pid of its leader.
    pub session: i32,
    /// Controlling terminal, as a device number; 0 for none.
    pub tty: i32,
    /// User time, clock ticks.
    pub utime: u64,
    /// System time, clock ticks.
    pub stime: u64,
    /// Threads.
    pub threads: u32,
    /// Start, clock ticks after boot.
    pub start: u64,
    /// Address space, bytes.
    pub vsize: u64,
    /// Resident memory, pages.
    pub rss: u64,
}

/// Parses the one line. The name stands in parentheses and may itself contain `)` and spaces: the last `)` ends it.
pub fn parse(line: &str) -> Option<Stat> {
    let (pid, rest) = line.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field numbers as in the man page; the state is field 3.
    let field = |n: usize| fields.get(n.checked_sub(3)?).copied();
    Some(Stat {
        pid: pid.trim().parse().ok()?,
        comm: comm.to_string(),
        state: field(3)?.chars().next()?,
        ppid: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        tty: field(7)?.parse().ok()?,
        utime: field(14)?.parse().ok()?,
        stime: field(15)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
        vsize: field(23)?.parse().unwrap_or(0),
        rss: field(24)?.parse().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "42 (a) R 1 (x) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 3 0 12345 8192 250 18446744073709551615 1 1";

    #[test]
    fn reads_fields_after_the_last_parenthesis() {
        let stat = parse(LINE).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state, stat.ppid), (42, "a) R 1 (x", 'S', 7));
        assert_eq!((stat.utime, stat.stime, stat.threads, stat.start, stat.rss), (11, 22, 3, 12345, 250));
    }

    #[test]
    fn malformed_is_none() {
        let huge = "9".repeat(1 << 20);
        for bad in ["", "1", "1 (x", "1 (x)", "1 (x) ", "x (y) S 1", "1 (x) S", huge.as_str(), "1 (x) S -1 2"]
        {
            assert_eq!(parse(bad), None);
        }
        for cut in 0..LINE.len() {
            let _ = parse(LINE.get(..cut).unwrap_or(""));
        }
    }
}
