//! `/proc/pressure/*` and `cgroup *.pressure`. Source: the kernel's Documentation/accounting/psi.rst.

use serde::Serialize;

/// One line: the share of time that tasks waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Per cent of the last 10 s.
    pub avg10: f64,
    /// Per cent of the last 60 s.
    pub avg60: f64,
    /// Per cent of the last 300 s.
    pub avg300: f64,
    /// Microseconds altogether.
    pub total_usec: u64,
}

/// One file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Option<Stall>,
    /// All tasks waited.
    pub full: Option<Stall>,
}

/// Parses the file; a malformed line is as if it were missing.
pub fn parse(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("some", rest)) => pressure.some = stall(rest),
            Some(("full", rest)) => pressure.full = stall(rest),
            _ => {}
        }
    }
    pressure
}

fn stall(rest: &str) -> Option<Stall> {
    let value = |key: &str| {
        let mut words = rest.split_ascii_whitespace().filter_map(|w| w.split_once('='));
        words.find(|(k, _)| *k == key).map(|(_, v)| v)
    };
    let share = |key: &str| value(key)?.parse::<f64>().ok().filter(|n| n.is_finite());
    Some(Stall {
        avg10: share("avg10")?,
        avg60: share("avg60")?,
        avg300: share("avg300")?,
        total_usec: value("total")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let p = parse(
            "some avg10=1.50 avg60=0.00 avg300=0.25 total=123\nfull avg10=x avg60=0 avg300=0 total=1\n",
        );
        assert_eq!(p.some, Some(Stall { avg10: 1.5, avg60: 0.0, avg300: 0.25, total_usec: 123 }));
        assert_eq!(p.full, None);
        assert_eq!(parse("some avg10=inf avg60=0 avg300=0 total=1\n\nsome"), Pressure::default());
    }
}
