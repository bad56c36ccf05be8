//! `/proc/PID/uid_map` and `gid_map`. Source: user_namespaces(7).

use serde::Serialize;

/// One line: a run of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside, as the reader's user namespace (or, for the reader's own, its parent) counts.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Parses the file; malformed lines are left out.
pub fn parse(text: &str) -> Vec<Extent> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Extent> {
    let mut words = line.split_ascii_whitespace().map(|w| w.parse::<u32>().ok());
    let extent = Extent { inside: words.next()??, outside: words.next()??, count: words.next()?? };
    words.next().is_none().then_some(extent)
}

impl Extent {
    /// In words: `inside 0 = outside 100000`, with the ranges when there is more than one id.
    pub fn words(self) -> String {
        let last = |first: u32| u64::from(first) + u64::from(self.count.max(1)) - 1;
        let (i, o) = (self.inside, self.outside);
        match self.count {
            1 => format!("inside {i} = outside {o}"),
            n => format!("inside {i} = outside {o}, {n} ids ({i}-{} = {o}-{})", last(i), last(o)),
        }
    }

    /// Whether it maps every id to itself, as the initial user namespace does.
    pub fn is_identity(self) -> bool {
        self.inside == 0 && self.outside == 0 && self.count == u32::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_the_range() {
        let map = parse("         0     100000      65536\n  65536 0 1\nx\n1 2\n1 2 3 4\n-1 0 1\n");
        assert_eq!(map.len(), 2);
        assert_eq!(map[0].words(), "inside 0 = outside 100000, 65536 ids (0-65535 = 100000-165535)");
        assert_eq!(map[1].words(), "inside 65536 = outside 0");
        assert!(parse("0 0 4294967295")[0].is_identity());
        assert!(parse("4294967295 4294967295 4294967295")[0].words().contains("8589934589"));
    }
}
