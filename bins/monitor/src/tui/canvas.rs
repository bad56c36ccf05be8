//! What is drawn: lines of styled text, of which only those that have changed are sent.

use drydock_cli::output::colour_on_stdout;
use drydock_core::Result;
use drydock_core::text::escape;
use unicode_width::UnicodeWidthChar;

/// How text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Style {
    /// As the terminal has it.
    #[default]
    Plain,
    /// Bold.
    Bold,
    /// Faint.
    Dim,
    /// The selected row, headings.
    Reverse,
    /// All is well.
    Good,
    /// Look here.
    Warn,
    /// Trouble.
    Bad,
    /// Names.
    Name,
}

impl Style {
    fn code(self, colour: bool) -> &'static str {
        match (self, colour) {
            (Style::Plain, _) => "",
            (Style::Bold, _) => "1",
            (Style::Dim, _) => "2",
            (Style::Reverse, _) => "7",
            (Style::Good, true) => "32",
            (Style::Warn, true) => "33",
            (Style::Bad, true) => "1;31",
            (Style::Name, true) => "36",
            (Style::Bad, false) => "1",
            (Style::Good | Style::Warn | Style::Name, false) => "",
        }
    }
}

/// A line: texts with their styles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// Plain text.
    pub fn plain(text: &str) -> Self {
        Self::default().and(Style::Plain, text)
    }

    /// Text in a style.
    pub fn of(style: Style, text: &str) -> Self {
        Self::default().and(style, text)
    }

    /// More text; control characters are escaped.
    #[must_use]
    pub fn and(mut self, style: Style, text: &str) -> Self {
        self.0.push((style, escape(text)));
        self
    }

    /// All of it in one style.
    #[must_use]
    pub fn all(self, style: Style) -> Self {
        let text: String = self.0.into_iter().map(|(_, text)| text).collect();
        Self(vec![(style, text)])
    }

    /// Cut and filled to `width` columns.
    fn fit(&self, width: usize) -> Vec<(Style, String)> {
        let mut left = width;
        let mut parts = Vec::new();
        for (style, text) in &self.0 {
            let cut = cut(text, left);
            left = left.saturating_sub(columns(&cut));
            parts.push((*style, cut));
        }
        let last = parts.last().map_or(Style::Plain, |(style, _)| *style);
        let fill = if last == Style::Reverse { Style::Reverse } else { Style::Plain };
        parts.push((fill, " ".repeat(left)));
        parts
    }
}

/// The columns that a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// At most `width` columns of a text; what is cut ends in `…`.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_string();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// A text in exactly `width` columns.
pub fn pad(text: &str, width: usize, right: bool) -> String {
    let text = cut(&escape(text), width);
    let gap = " ".repeat(width.saturating_sub(columns(&text)));
    if right { format!("{gap}{text}") } else { format!("{text}{gap}") }
}

/// One screen.
#[derive(Clone, Debug)]
pub struct Canvas {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
    lines: Vec<Line>,
}

impl Canvas {
    /// An empty one.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, lines: Vec::new() }
    }

    /// Adds a line; those that do not fit are left out.
    pub fn push(&mut self, line: Line) {
        if self.lines.len() < self.height {
            self.lines.push(line);
        }
    }

    /// Lines that are left.
    pub fn left(&self) -> usize {
        self.height - self.lines.len()
    }

    /// Empty lines until only `left` are left.
    pub fn fill(&mut self, left: usize) {
        while self.left() > left {
            self.push(Line::default());
        }
    }

    /// As text without styles, without spaces at the ends of lines.
    pub fn plain(&self) -> String {
        let text = |line: &Line| {
            let parts: String = line.fit(self.width).into_iter().map(|(_, text)| text).collect();
            format!("{}\n", parts.trim_end())
        };
        self.lines.iter().map(text).collect()
    }

    fn sent(&self, line: &Line, colour: bool) -> String {
        let mut out = String::new();
        for (style, text) in line.fit(self.width) {
            match style.code(colour) {
                "" => out.push_str(&text),
                code => out.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
            }
        }
        out
    }
}

/// What the terminal shows.
#[derive(Debug, Default)]
pub struct Screen {
    shown: Vec<String>,
}

impl Screen {
    /// The terminal may show something else: all is sent again.
    pub fn forget(&mut self) {
        self.shown.clear();
    }

    /// Sends what has changed, as one write.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn show(&mut self, canvas: &Canvas) -> Result<()> {
        let colour = colour_on_stdout();
        let now: Vec<String> = (0..canvas.height)
            .map(|n| canvas.sent(canvas.lines.get(n).unwrap_or(&Line::default()), colour))
            .collect();
        // A terminal that knows it shows the whole change at once.
        let mut out = String::from("\x1b[?2026h");
        if self.shown.len() != now.len() {
            out.push_str("\x1b[2J");
            self.shown.clear();
        }
        let mut changed = false;
        for (n, line) in now.iter().enumerate() {
            if self.shown.get(n) != Some(line) {
                out.push_str(&format!("\x1b[{};1H{line}", n + 1));
                changed = true;
            }
        }
        out.push_str("\x1b[?2026l");
        self.shown = now;
        if changed { drydock_cli::print_text(&out) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_columns() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(pad("ab", 4, true), "  ab");
        assert_eq!(pad("a\x1bb", 8, false), "a\\x1bb  ");
        assert_eq!((cut("abc", 0), cut("", 0)), (String::new(), String::new()));
    }

    #[test]
    fn lines_beyond_the_screen_are_left_out() {
        let mut canvas = Canvas::new(3, 2);
        for text in ["abcdef", "x", "y"] {
            canvas.push(Line::plain(text));
        }
        assert_eq!(canvas.plain(), "ab…\nx\n");
        canvas.fill(0);
        assert_eq!(canvas.left(), 0);
    }
}
