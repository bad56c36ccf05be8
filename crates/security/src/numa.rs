//! From which NUMA nodes memory comes: OCI's `linux.memoryPolicy`. Source: set_mempolicy(2).

use crate::list;
use crate::scheduling::named;
use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Modes of set_mempolicy(2).
pub const MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_LOCAL", 4),
];

/// Flags that are or-ed to the mode.
pub const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// `linux.memoryPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// One of [`MODES`].
    pub mode: String,
    /// The nodes: a list such as `0-3,7`.
    pub nodes: Option<String>,
    /// Of [`FLAGS`].
    pub flags: Option<Vec<String>>,
}

impl MemoryPolicy {
    /// The mode with its flags, and the nodes.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field for an unknown name, a list that is none, nodes where the mode
    /// takes none or none where it needs some, or flags that exclude each other.
    pub fn check(&self) -> Result<(u32, Vec<usize>)> {
        let mode = named("memoryPolicy.mode", &self.mode, &MODES).map_err(|e| invalid("mode", &e))?;
        let nodes = list::parse("memoryPolicy.nodes", self.nodes.as_deref().unwrap_or_default())
            .map_err(|e| invalid("nodes", &e))?;
        let flag = |flag: &str| named("memoryPolicy.flags", flag, &FLAGS).map_err(|e| invalid("flags", &e));
        let flags = self.flags.iter().flatten().try_fold(0, |all, name| flag(name).map(|one| all | one))?;
        let bad =
            |field: &str, problem: &str| Err(Error::bad_input(format!("memoryPolicy.{field}"), problem));
        let without = matches!(self.mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL");
        if without && !nodes.is_empty() {
            let problem =
                format!("given with {}: this mode requires 0 nodes but got {}", self.mode, nodes.len());
            return bad("nodes", &format!("{problem} (allowed: none)"));
        }
        if !without && nodes.is_empty() && self.mode != "MPOL_PREFERRED" {
            return bad("nodes", &format!("empty with {} (allowed: at least one node)", self.mode));
        }
        if flags & (3 << 14) == 3 << 14 {
            return bad("flags", "both MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES (allowed: one of them)");
        }
        if flags & (1 << 13) != 0 && !matches!(self.mode.as_str(), "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
            let problem = format!(
                "MPOL_F_NUMA_BALANCING with {} (allowed: with MPOL_BIND, MPOL_PREFERRED_MANY)",
                self.mode
            );
            return bad("flags", &problem);
        }
        if flags & (3 << 14) != 0 && nodes.is_empty() {
            return bad("flags", "about nodes, but there are none (allowed: with nodes)");
        }
        if flags & (1 << 14) == 0
            && let Some((missing, there)) = missing(&nodes)
        {
            let problem =
                format!("invalid memory policy nodes: {missing} has no memory here (allowed: {there})");
            return bad("nodes", &problem);
        }
        Ok((mode | flags, nodes))
    }
}

/// The first node and those that have memory, if none of these has: the kernel leaves out the others.
fn missing(nodes: &[usize]) -> Option<(usize, String)> {
    let there = std::fs::read_to_string("/sys/devices/system/node/has_memory").ok()?;
    let there = there.trim();
    let have = list::parse("memoryPolicy.nodes", there).ok().filter(|have| !have.is_empty())?;
    let first = nodes.first().filter(|_| !nodes.iter().any(|node| have.contains(node)))?;
    Some((*first, there.to_string()))
}

/// runc's words, which are looked for in logs, before our own.
fn invalid(field: &str, error: &Error) -> Error {
    let sentence = error.sentence();
    let problem = sentence.split_once(": ").map_or(sentence.as_str(), |(_, problem)| problem);
    let words = if field == "flags" { "flag" } else { field };
    Error::bad_input(format!("memoryPolicy.{field}"), format!("invalid memory policy {words}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: &str, nodes: &str, flags: &[&str]) -> Result<(u32, Vec<usize>)> {
        let flags = flags.iter().map(ToString::to_string).collect();
        MemoryPolicy { mode: mode.into(), nodes: Some(nodes.into()), flags: Some(flags) }.check()
    }

    #[test]
    fn policies() {
        assert_eq!(check("MPOL_DEFAULT", "", &[]).unwrap(), (0, vec![]));
        assert_eq!(check("MPOL_PREFERRED", "", &[]).unwrap(), (1, vec![]));
        assert_eq!(check("MPOL_BIND", "0-1", &["MPOL_F_STATIC_NODES"]).unwrap(), (0x8002, vec![0, 1]));
        for (mode, nodes, flags, field) in [
            ("MPOL_LOCAL", "0", vec![], "nodes"),
            ("MPOL_BIND", "", vec![], "nodes"),
            ("MPOL_BIND", "x", vec![], "nodes"),
            ("MPOL_MANY", "0", vec![], "mode"),
            ("MPOL_BIND", "0", vec!["MPOL_F_X"], "flags"),
            ("MPOL_BIND", "0", vec!["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"], "flags"),
            ("MPOL_INTERLEAVE", "0", vec!["MPOL_F_NUMA_BALANCING"], "flags"),
            ("MPOL_DEFAULT", "", vec!["MPOL_F_STATIC_NODES"], "flags"),
        ] {
            let error = check(mode, nodes, &flags).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().starts_with(&format!("memoryPolicy.{field}")), "{error}");
        }
        let said =
            |mode: &str, nodes: &str, flags: &[&str]| check(mode, nodes, flags).unwrap_err().to_string();
        assert!(said("", "", &[]).contains("mode: invalid memory policy mode: '' is not one"));
        assert!(said("MPOL_BIND", "0-9876543210", &[]).contains("nodes: invalid memory policy nodes: "));
        assert!(said("MPOL_BIND", "0", &["X"]).contains("flags: invalid memory policy flag: 'X'"));
        assert!(said("MPOL_DEFAULT", "0-7", &[]).contains("mode requires 0 nodes but got 8 (allowed: none)"));
    }
}
