//! The command line of `monitor graph`.

use clap::{Args as ClapArgs, ValueEnum};
use drydock_core::{Error, Result};
use std::path::PathBuf;

/// How the picture is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// Text for a terminal
    Text,
    /// SVG for a browser
    Svg,
    /// For dot(1) of graphviz
    Dot,
    /// For mermaid, as in Markdown
    Mermaid,
}

/// What to draw, and how.
#[derive(ClapArgs, Clone, Debug)]
pub struct GraphOptions {
    /// Only these processes or containers, and the machine [default: all]
    #[arg(value_name = "PID|ID", allow_negative_numbers = true)]
    pub targets: Vec<String>,
    /// How [default: by the name of the file, else text]
    #[arg(long = "as", visible_alias = "type", value_name = "DRAWING", value_enum)]
    pub kind: Option<Drawing>,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also services that have only mount, ipc, uts, cgroup or time namespaces of their own
    #[arg(short, long)]
    pub all: bool,
}

impl GraphOptions {
    /// As asked, else as the file is called.
    ///
    /// # Errors
    /// Bad input for a name that says another kind of file than we draw.
    pub fn drawing(&self) -> Result<Drawing> {
        if let Some(kind) = self.kind {
            return Ok(kind);
        }
        let Some(path) = &self.output else { return Ok(Drawing::Text) };
        let end = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        match end.as_deref() {
            Some("svg") => Ok(Drawing::Svg),
            Some("dot" | "gv") => Ok(Drawing::Dot),
            Some("mmd" | "mermaid") => Ok(Drawing::Mermaid),
            Some("txt" | "text") => Ok(Drawing::Text),
            _ => {
                let shown =
                    drydock_core::text::shorten(&drydock_core::text::escape(&path.display().to_string()), 80);
                Err(Error::bad_input(
                    "--output",
                    format!("'{shown}' does not say what to draw (allowed: .svg, .dot, .mmd, .txt, or any name with --as)"),
                )
                .hint("another picture: monitor graph --as dot | dot -Tpng -o FILE"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name() {
        let of = |output: Option<&str>, kind| {
            GraphOptions { targets: vec![], kind, output: output.map(PathBuf::from), all: false }.drawing()
        };
        assert_eq!(of(None, None).unwrap(), Drawing::Text);
        assert_eq!(of(Some("a/x.SVG"), None).unwrap(), Drawing::Svg);
        assert_eq!(of(Some("x.png"), Some(Drawing::Dot)).unwrap(), Drawing::Dot);
        for bad in ["x.png", "x", ".svg", "/dev/null"] {
            assert_eq!(of(Some(bad), None).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
