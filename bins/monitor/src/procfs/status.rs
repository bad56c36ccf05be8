//! `/proc/PID/status`: `Key:\tvalue` lines. Source: proc_pid_status(5).

/// The fields that we use. A line that is missing or malformed leaves its field empty: kernels differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Real user id, as this process's user namespace shows it.
    pub uid: Option<u32>,
    /// Real group id.
    pub gid: Option<u32>,
    /// The pid in each pid namespace, outermost first (the reader's), the process's own last.
    pub nspid: Vec<u32>,
    /// Resident memory in KiB.
    pub rss_kib: Option<u64>,
    /// Threads.
    pub threads: Option<u32>,
    /// Capability masks: inheritable, permitted, effective, bounding, ambient.
    pub cap_inheritable: Option<u64>,
    /// Permitted.
    pub cap_permitted: Option<u64>,
    /// Effective.
    pub cap_effective: Option<u64>,
    /// Bounding.
    pub cap_bounding: Option<u64>,
    /// Ambient.
    pub cap_ambient: Option<u64>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// Number of seccomp filters (since Linux 5.9).
    pub seccomp_filters: Option<u32>,
    /// no_new_privs.
    pub no_new_privs: Option<bool>,
}

/// Parses the file.
pub fn parse(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let mut words = value.split_ascii_whitespace();
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
        let small = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok());
        let mask = || u64::from_str_radix(value.trim(), 16).ok();
        match key {
            "Uid" => status.uid = small(number()),
            "Gid" => status.gid = small(number()),
            "NSpid" => status.nspid = value.split_ascii_whitespace().map_while(|w| w.parse().ok()).collect(),
            "VmRSS" => status.rss_kib = number(),
            "Threads" => status.threads = small(number()),
            "CapInh" => status.cap_inheritable = mask(),
            "CapPrm" => status.cap_permitted = mask(),
            "CapEff" => status.cap_effective = mask(),
            "CapBnd" => status.cap_bounding = mask(),
            "CapAmb" => status.cap_ambient = mask(),
            "Seccomp" => status.seccomp = small(number()),
            "Seccomp_filters" => status.seccomp_filters = small(number()),
            "NoNewPrivs" => status.no_new_privs = number().map(|n| n != 0),
            _ => {}
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\nNSpid:\t812\t12\t1\nVmRSS:\t    1234 kB\nThreads:\t4\n\
                    CapEff:\t00000000a80425fb\nCapBnd:\tzz\nSeccomp:\t2\nSeccomp_filters:\t1\nNoNewPrivs:\t1\n";
        let s = parse(text);
        assert_eq!((s.uid, s.gid, s.nspid.as_slice()), (Some(1000), Some(5), &[812, 12, 1][..]));
        assert_eq!((s.rss_kib, s.threads, s.cap_effective), (Some(1234), Some(4), Some(0xa804_25fb)));
        assert_eq!((s.cap_bounding, s.seccomp, s.no_new_privs), (None, Some(2), Some(true)));
    }

    #[test]
    fn malformed_lines_leave_fields_empty() {
        assert_eq!(parse(""), Status::default());
        assert_eq!(
            parse("Uid\nUid:\nUid: x\nNSpid: -1\nThreads: 99999999999\n\u{fffd}:\u{fffd}"),
            Status::default()
        );
    }
}
