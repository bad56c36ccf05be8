//! Byte sizes as people write them: `100M`, `1.5G`, `4096`, `64k`. Units are powers of 1024, as in the kernel's files.

use crate::{Error, Result};

/// Parses a size in bytes. `object` names the option in the error.
///
/// Suffixes: `b`, `k`, `m`, `g`, `t`, `p` in either case, each optionally followed by `b` or `ib` (`MiB`).
///
/// # Errors
/// [`crate::Kind::BadInput`] for anything else: signs, exponents, overflow.
pub fn parse(object: &str, text: &str) -> Result<u64> {
    let bad = || {
        let shown = crate::text::shorten(&crate::text::escape(text), 40);
        Error::bad_input(
            object,
            format!("'{shown}' is not a size (allowed: a number with b, k, m, g, t or p, such as 100M)"),
        )
    };
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let lower = suffix.to_ascii_lowercase();
    let factor: u64 = match lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower) {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return Err(bad()),
    };
    if lower == "ib" || number.is_empty() || number.starts_with('.') || number.ends_with('.') {
        return Err(bad());
    }
    match number.split_once('.') {
        None => number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad),
        Some((_, fraction)) if fraction.contains('.') || fraction.len() > 9 => Err(bad()),
        Some((whole, fraction)) => {
            let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
            let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
            u64::try_from(digits.saturating_mul(u128::from(factor)) / scale).map_err(|_| bad())
        }
    }
}

/// A size for people: `1.5M`, `100M`, `4.0K`, `512`.
pub fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("E");
    if value.fract() == 0.0 { format!("{value:.0}{name}") } else { format!("{value:.1}{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("100M", 100 << 20),
            ("100m", 100 << 20),
            ("1.5G", 3 << 29),
            ("64KiB", 65536),
            ("1gb", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse("x", text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "-1", "10x", "1e3", "99999P", "1.", ".5", "1.2.3", "ib", "M", " 1", "1 M", "+1"] {
            assert_eq!(parse("--memory", bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn shows() {
        assert_eq!(show(100 << 20), "100M");
        assert_eq!(show(1536), "1.5K");
        assert_eq!(show(12), "12");
    }
}
