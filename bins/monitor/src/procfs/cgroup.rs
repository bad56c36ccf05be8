//! `/proc/PID/cgroup`: where a process stands in each hierarchy. Source: cgroups(7).

use serde::Serialize;

/// One line: `4:memory:/path`, or `0::/path` for cgroup v2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// Hierarchy number; 0 is cgroup v2.
    pub hierarchy: u32,
    /// v1 controllers, or `name=systemd`; empty for v2.
    pub controllers: Vec<String>,
    /// Path as the reader's cgroup namespace shows it; begins with `/..` outside of it.
    pub path: String,
}

/// Parses the file; malformed lines are left out.
pub fn parse(text: &str) -> Vec<Membership> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Membership> {
    let mut parts = line.splitn(3, ':');
    let hierarchy = parts.next()?.parse().ok()?;
    let controllers = parts.next()?.split(',').filter(|c| !c.is_empty()).map(str::to_string).collect();
    let path = parts.next().filter(|p| p.starts_with('/'))?;
    // The kernel says so when the directory was removed under a zombie.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path).to_string();
    Some(Membership { hierarchy, controllers, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let found =
            parse("12:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/x (deleted)\njunk\n:x:/y\n3:pids:rel\n");
        let short: Vec<_> =
            found.iter().map(|m| (m.hierarchy, m.controllers.len(), m.path.as_str())).collect();
        assert_eq!(short, [(12, 2, "/a:b"), (1, 1, "/"), (0, 0, "/x")]);
    }
}
