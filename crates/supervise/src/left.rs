//! What is left when the main child has ended: everybody else in the pid namespace, or the reaper's descendants.

use drydock_core::sys::signal::kill;
use std::collections::BTreeMap;

/// Sends a signal to all of them. To how many.
pub fn signal(number: i32) -> usize {
    if std::process::id() == 1 {
        let count = parents().len().saturating_sub(1);
        // One call, which nobody can slip through by forking; it leaves PID 1 itself out.
        return if kill(-1, number).is_ok() { count } else { 0 };
    }
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let all = below(own, &parents());
    all.into_iter().filter(|pid| kill(*pid, number).is_ok()).count()
}

/// The parent of each process that /proc shows, zombies left out. Without /proc: nobody.
fn parents() -> BTreeMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        parent_in(&String::from_utf8_lossy(&stat)).map(|parent| (pid, parent))
    };
    pids.filter_map(parent).collect()
}

fn parent_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

fn below(root: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(at) = found.get(next).copied() {
        next += 1;
        found.extend(
            parents.iter().filter(|(pid, parent)| **parent == at && **pid != at).map(|(pid, _)| *pid),
        );
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants() {
        let tree = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 2)].into_iter().collect();
        let mut found = below(2, &tree);
        found.sort_unstable();
        assert_eq!(found, [3, 4, 6]);
        assert_eq!(below(9, &tree), [0i32; 0]);
        assert_eq!(parent_in("7 (a) b) S 3 7"), Some(3));
        assert_eq!(parent_in("7 (a) Z 3 7"), None);
    }
}
