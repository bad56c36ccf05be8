//! The report for people: a table by groups, with marks, and a summary.

use super::{Report, Status};
use drydock_core::text::escape;

/// The whole text. `colour`: with terminal colours.
pub fn render(report: &Report, colour: bool) -> String {
    let width = report.probes.iter().map(|l| l.what.chars().count()).max().unwrap_or(0);
    let mut text = format!("{} on {}, as {}\n", report.kernel, report.architecture, report.mode);
    let mut group = "";
    for line in &report.probes {
        if line.group != group {
            group = line.group;
            text.push_str(&format!("\n{}\n", paint(group, "1", colour)));
        }
        let (mark, code) = match line.status {
            Status::Ok => ("ok      ", "32"),
            Status::Degraded => ("degraded", "33"),
            Status::Missing => ("missing ", "31"),
        };
        let row = format!("{:<width$}  {}", line.what, escape(&line.detail));
        text.push_str(&format!("  {}  {}\n", paint(mark, code, colour), row.trim_end()));
        let needed =
            if line.needed && line.status == Status::Missing { " (container run needs this)" } else { "" };
        for (word, said) in
            [("lost", line.lost), ("fix", line.fix.as_deref()), ("config", line.evidence.as_deref())]
        {
            if let Some(said) = said {
                let after = if word == "lost" { needed } else { "" };
                text.push_str(&format!("              {word}: {}{after}\n", escape(said)));
            }
        }
    }
    let code = if report.works { "32" } else { "31" };
    text.push_str(&format!("\n{}\n", paint(&escape(&report.summary), code, colour)));
    text
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}
