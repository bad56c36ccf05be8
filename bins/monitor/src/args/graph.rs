//! The command line of `monitor graph`.

use clap::{Args as ClapArgs, ValueEnum};
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
    pub fn drawing(&self) -> Drawing {
        let by_name = || match self.output.as_ref()?.extension()?.to_str()? {
            "svg" => Some(Drawing::Svg),
            "dot" | "gv" => Some(Drawing::Dot),
            "mmd" | "mermaid" => Some(Drawing::Mermaid),
            _ => None,
        };
        self.kind.or_else(by_name).unwrap_or(Drawing::Text)
    }
}
