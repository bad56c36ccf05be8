//! The eight types as a table (S1).

use drydock_namespaces::Kind;
use serde::Serialize;

/// One row of `monitor ns types`.
#[derive(Clone, Debug, Serialize)]
pub struct Type {
    /// Name under /proc/PID/ns.
    pub name: &'static str,
    /// The clone(2) flag's name.
    pub flag: &'static str,
    /// Its value, `0x40000000`.
    pub hex: String,
    /// Man page.
    pub man: &'static str,
    /// First Linux release.
    pub since: &'static str,
    /// Whether this kernel has it.
    pub enabled: bool,
    /// What it isolates.
    pub isolates: &'static str,
}

/// All rows.
pub fn types() -> Vec<Type> {
    let row = |kind: Kind| Type {
        name: kind.proc_name(),
        flag: kind.flag_name(),
        hex: format!("{:#010x}", kind.flag()),
        man: kind.man(),
        since: kind.since(),
        enabled: kind.is_available(),
        isolates: kind.isolates(),
    };
    Kind::ALL.into_iter().map(row).collect()
}
