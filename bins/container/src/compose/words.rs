//! Small texts of a Compose file: command lines and durations.

use std::time::Duration;

/// Splits a command line as Compose does: white space separates, quotes and backslashes keep together; nothing is expanded.
///
/// # Errors
/// What is wrong, in words.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote that does not end".into()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some('\n') => {}
                            Some(c) => word.extend(['\\', c]),
                            None => return Err("a double quote that does not end".into()),
                        },
                        Some(c) => word.push(c),
                        None => return Err("a double quote that does not end".into()),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("a backslash at the end".into()),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Whole seconds, rounded up, of `10s`, `1m30s`, `1h`, `1.5s`, `500ms`.
///
/// # Errors
/// What is allowed, in words.
pub fn seconds(text: &str) -> Result<u64, String> {
    let length = duration(text)?;
    Ok(length.as_secs() + u64::from(length.subsec_nanos() > 0))
}

/// The same, as exact as it is given.
///
/// # Errors
/// What is allowed, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "not a duration (allowed: such as 10s, 1m30s, 1h, 500ms)".to_string();
    let mut rest = text;
    let mut nanos: u128 = 0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() || rest.len() > 40 {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(bad()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.len() > 9 || whole.len() > 9 || fraction.contains('.') {
            return Err(bad());
        }
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
        nanos += digits * unit / scale;
        rest = after;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| bad())?;
    let rest = u32::try_from(nanos % 1_000_000_000).map_err(|_| bad())?;
    Ok(Duration::new(seconds, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        for (text, words) in [
            ("", vec![]),
            ("  a  b\tc ", vec!["a", "b", "c"]),
            ("sh -c 'echo \"$X\" a'", vec!["sh", "-c", "echo \"$X\" a"]),
            ("a\"b c\"d ''", vec!["ab cd", ""]),
            ("a\\ b \"\\\"\\n\"", vec!["a b", "\"\\n"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for bad in ["'", "\"", "a\\", "\"\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, value) in
            [("10s", 10), ("1m30s", 90), ("1h", 3600), ("500ms", 1), ("0s", 0), ("1.5s", 2), ("0", 0)]
        {
            assert_eq!(seconds(text).unwrap(), value, "{text}");
        }
        for bad in ["", "10", "s", "-1s", "1d", "1s1", "1..5s", ".s", "99999999999h", "1 s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
