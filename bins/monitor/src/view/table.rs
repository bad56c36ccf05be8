//! Tables in the ways that lsns(8) and others offer: aligned, raw, without heading, cut to the terminal.

use drydock_core::text::{escape, shorten};
use std::io::IsTerminal;

/// How a table looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Without the heading.
    pub no_headings: bool,
    /// Fields with one space between, spaces in them as `\x20`: for programs.
    pub raw: bool,
    /// Lines as long as they are; else a terminal cuts them.
    pub whole: bool,
}

/// The table as text.
pub fn render(header: &[&str], rows: &[Vec<String>], look: &Look) -> String {
    let mut text = if look.raw { raw(header, rows) } else { drydock_cli::output::table(header, rows) };
    if look.no_headings {
        text = text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_string());
    }
    match width().filter(|_| !look.whole && !look.raw) {
        Some(width) => text.lines().map(|line| format!("{}\n", shorten(line, width))).collect(),
        None => text,
    }
}

fn raw(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |text: &str| match text {
        "" => "-".to_string(),
        text => escape(text).replace(' ', "\\x20"),
    };
    let mut text = format!("{}\n", header.join(" "));
    for row in rows {
        text.push_str(&row.iter().map(|c| cell(c)).collect::<Vec<_>>().join(" "));
        text.push('\n');
    }
    text
}

/// The columns of the terminal that stdout is; `None` if it is none.
pub fn width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(out).ok().map(|size| usize::from(size.ws_col)).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks() {
        let rows = vec![vec!["1".to_string(), "a b\x1b".to_string()], vec!["22".to_string(), String::new()]];
        let raw = Look { raw: true, ..Look::default() };
        assert_eq!(render(&["N", "V"], &rows, &raw), "N V\n1 a\\x20b\\x1b\n22 -\n");
        let bare = Look { no_headings: true, ..Look::default() };
        assert_eq!(render(&["N", "V"], &rows, &bare), "1   a b\\x1b\n22\n");
    }
}
