//! `monitor inspect`.

use super::process::cells;
use crate::Session;
use crate::model::cgroups::Place;
use crate::model::inspect::{Capabilities, Inspection, inspect as look};
use crate::model::target::Target;
use crate::procfs::idmap::Extent;
use drydock_cli::output::{print_text, table};
use drydock_core::Result;
use drydock_core::size::show;
use drydock_core::text::escape;

/// `monitor inspect`.
///
/// # Errors
/// When the process has gone or is closed to us.
pub fn inspect(session: &Session, target: &Target) -> Result<()> {
    let found = look(&session.proc, target)?;
    if session.json {
        return session.print(&found);
    }
    let mut text = table(&["FIELD", "VALUE"], &facts(&found));
    text.push_str("\nNamespaces\n");
    for link in &found.namespaces {
        text.push_str(&format!("  {:<18}{}\n", link.name, super::or_dash(link.link.as_ref())));
    }
    text.push_str("\nCgroups\n");
    found.cgroups.iter().for_each(|place| text.push_str(&cgroup(place)));
    text.push_str("\nProcesses\n");
    let header = ["PID", "INSIDE", "PPID", "UID", "STAT", "%CPU", "%MEM", "RSS", "TIME", "COMMAND"];
    let rows = found.processes.iter().map(|node| {
        let mut row = cells(&node.row);
        if let Some(command) = row.last_mut() {
            *command = format!("{}{command}", "  ".repeat(node.depth));
        }
        row
    });
    text.push_str(&table(&header, &rows.collect::<Vec<_>>()));
    print_text(&text)?;
    super::notes(&found.notes);
    Ok(())
}

fn facts(found: &Inspection) -> Vec<Vec<String>> {
    let p = &found.process;
    let pids: Vec<String> = p.pids.iter().map(ToString::to_string).collect();
    let names = if found.netns_names.is_empty() { "-".to_string() } else { found.netns_names.join(" ") };
    let seccomp = match (found.seccomp, found.seccomp_filters) {
        (Some("filter"), Some(n)) => format!("filter ({n})"),
        (mode, _) => super::or_dash(mode),
    };
    let nnp = found.no_new_privs.map(|on| if on { "yes" } else { "no" });
    let caps = &found.capabilities;
    let mut facts = vec![
        ("pid", found.pid.to_string()),
        ("container", super::or_dash(found.container.as_ref())),
        ("command", p.command.clone()),
        ("state", p.state.to_string()),
        ("pids by namespace", pids.join(" ")),
        ("parent", p.ppid.to_string()),
        ("uid, gid", format!("{}, {}", super::or_dash(p.uid), super::or_dash(found.gid))),
        ("%cpu, %mem", format!("{:.1}, {:.1}", p.cpu_percent, p.memory_percent)),
        ("rss", show(p.rss_bytes)),
        ("threads", p.threads.to_string()),
        ("descriptors", super::or_dash(found.fds)),
        ("netns name", names),
        ("uid map", map(&found.uid_map)),
        ("gid map", map(&found.gid_map)),
        ("seccomp", seccomp),
        ("no_new_privs", super::or_dash(nnp)),
        ("lsm label", super::or_dash(found.lsm_label.as_ref())),
        ("oom_score_adj", super::or_dash(found.oom_score_adj)),
    ];
    for (name, set) in [
        ("cap effective", &caps.effective),
        ("cap permitted", &caps.permitted),
        ("cap inheritable", &caps.inheritable),
        ("cap bounding", &caps.bounding),
        ("cap ambient", &caps.ambient),
    ] {
        facts.push((name, set.as_ref().map_or("-".to_string(), capabilities)));
    }
    facts.into_iter().map(|(name, value)| vec![name.to_string(), value]).collect()
}

fn map(extents: &[Extent]) -> String {
    match extents {
        [] => "none".to_string(),
        [one] if one.is_identity() => "all ids unchanged".to_string(),
        _ => extents.iter().map(|e| e.words()).collect::<Vec<_>>().join("; "),
    }
}

fn capabilities(set: &Capabilities) -> String {
    let short: Vec<&str> = set.names.iter().map(|n| n.strip_prefix("CAP_").unwrap_or(n)).collect();
    if short.is_empty() { set.hex.clone() } else { format!("{} {}", set.hex, short.join(" ").to_lowercase()) }
}

fn cgroup(place: &Place) -> String {
    let m = &place.membership;
    let name = if m.hierarchy == 0 { "v2".to_string() } else { m.controllers.join(",") };
    let dir = place.directory.as_ref().map_or("not mounted here".to_string(), |d| d.display().to_string());
    format!("  {:<18}{}  {}\n", escape(&name), escape(&m.path), escape(&dir))
}
