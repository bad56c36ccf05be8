//! The mounts of a process, as a list or a tree.

use super::target::unreadable;
use crate::procfs::Proc;
use crate::procfs::mountinfo::{self, Mount};
use drydock_core::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The mounts that process `pid` sees (or ours), in the kernel's order.
///
/// # Errors
/// When its mountinfo cannot be read.
pub fn mounts(proc: &Proc, pid: u32) -> Result<Vec<Mount>> {
    let text = proc.text(&format!("{pid}/mountinfo")).map_err(|e| unreadable(pid, "mountinfo", e))?;
    Ok(mountinfo::parse(&text))
}

/// The same, each after the mount that it stands on, with its depth.
pub fn tree(mounts: &[Mount]) -> Vec<(usize, &Mount)> {
    let ids: BTreeSet<u64> = mounts.iter().map(|m| m.id).collect();
    let mut children: BTreeMap<u64, Vec<&Mount>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for mount in mounts {
        let is_root = !ids.contains(&mount.parent) || mount.parent == mount.id;
        if is_root {
            waiting.push((0, mount));
        } else {
            children.entry(mount.parent).or_default().push(mount);
        }
    }
    waiting.reverse();
    let mut order = Vec::new();
    while let Some((depth, mount)) = waiting.pop() {
        order.push((depth, mount));
        // Taken out of the map, so that a malformed circle ends.
        for child in children.remove(&mount.id).unwrap_or_default().into_iter().rev() {
            waiting.push((depth + 1, child));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_follow_their_parents() {
        let mount = |id, parent| Mount { id, parent, ..Mount::default() };
        let mounts = [mount(1, 0), mount(2, 1), mount(3, 1), mount(4, 2), mount(9, 9)];
        let order: Vec<(usize, u64)> = tree(&mounts).into_iter().map(|(d, m)| (d, m.id)).collect();
        assert_eq!(order, [(0, 1), (1, 2), (2, 4), (1, 3), (0, 9)]);
    }
}
