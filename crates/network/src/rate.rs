//! Rates, sizes, times and percentages as tc(8) writes them.

use drydock_core::{Error, Result, text};
use std::time::Duration;

/// `(number, unit)` of `12.5mbit`; the number is not negative.
fn split(word: &str) -> Option<(f64, String)> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at_checked(end)?;
    // No sign, exponent, infinity or name: digits and one dot.
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite())?;
    Some((number, unit.to_ascii_lowercase()))
}

fn bad(object: &str, word: &str, allowed: &str) -> Error {
    let shown = text::shorten(&text::escape(word), 40);
    Error::bad_input(object, format!("'{shown}' is not right (allowed: {allowed})"))
}

/// A rate in bytes a second: `10mbit`, `500kbit`, `1.5gbit`, `1mbps` (bytes); a number alone is bits a second.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: no rate, less than 8 kbit/s or more than 1 Tbit/s.
pub fn rate(object: &str, word: &str) -> Result<u64> {
    const ALLOWED: &str = "8kbit to 1tbit, such as 10mbit, 500kbit, 1.5gbit; kbps and mbps are bytes";
    let error = || bad(object, word, ALLOWED);
    let (number, unit) = split(word).ok_or_else(error)?;
    let bits = match unit.as_str() {
        "" | "bit" => 1.0,
        "k" | "kbit" => 1e3,
        "m" | "mbit" => 1e6,
        "g" | "gbit" => 1e9,
        "t" | "tbit" => 1e12,
        "kibit" => 1024.0,
        "mibit" => 1024.0 * 1024.0,
        "gibit" => 1024.0 * 1024.0 * 1024.0,
        "bps" => 8.0,
        "kbps" => 8e3,
        "mbps" => 8e6,
        "gbps" => 8e9,
        "tbps" => 8e12,
        "kibps" => 8.0 * 1024.0,
        "mibps" => 8.0 * 1024.0 * 1024.0,
        "gibps" => 8.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(error()),
    };
    let total = number * bits;
    if !(8e3..=1e12).contains(&total) {
        return Err(error());
    }
    Ok((total / 8.0).round() as u64)
}

/// A rate for people: `10mbit`.
pub fn show_rate(bytes: u64) -> String {
    let bits = bytes.saturating_mul(8);
    for (unit, size) in
        [("tbit", 1_000_000_000_000), ("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000)]
    {
        if bits >= size && bits.is_multiple_of(size) {
            return format!("{}{unit}", bits / size);
        }
    }
    if bits >= 1_000_000 {
        return format!("{:.2}mbit", bits as f64 / 1e6);
    }
    format!("{bits}bit")
}

/// A size in bytes: `32k`, `1m`, `1500`, `256kb`; powers of 1024, as tc(8) has them.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: no size, or outside of 1600 bytes to 1 GiB.
pub fn size(object: &str, word: &str) -> Result<u32> {
    const ALLOWED: &str = "1600 bytes to 1g, such as 32k";
    let error = || bad(object, word, ALLOWED);
    let (number, unit) = split(word).ok_or_else(error)?;
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1024.0,
        "m" | "mb" => 1024.0 * 1024.0,
        "g" | "gb" => 1024.0 * 1024.0 * 1024.0,
        "kbit" => 1024.0 / 8.0,
        "mbit" => 1024.0 * 1024.0 / 8.0,
        _ => return Err(error()),
    };
    let total = number * factor;
    if !(1600.0..=1024.0 * 1024.0 * 1024.0).contains(&total) {
        return Err(error());
    }
    Ok(total.round() as u32)
}

/// A time: `100ms`, `1.5s`, `500us`; a number alone is microseconds, as in tc(8). At most a minute.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn time(object: &str, word: &str) -> Result<Duration> {
    const ALLOWED: &str = "1us to 60s, such as 100ms";
    let error = || bad(object, word, ALLOWED);
    let (number, unit) = split(word).ok_or_else(error)?;
    let seconds = match unit.as_str() {
        "s" | "sec" | "secs" => 1.0,
        "ms" | "msec" | "msecs" => 1e-3,
        "" | "us" | "usec" | "usecs" => 1e-6,
        _ => return Err(error()),
    } * number;
    if !(1e-6..=60.0).contains(&seconds) {
        return Err(error());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A percentage: `1%`, `0.5%`, `2`.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`]: not from 0 to 100.
pub fn percent(object: &str, word: &str) -> Result<f64> {
    let error = || bad(object, word, "0% to 100%, such as 1%");
    let (number, unit) = split(word).ok_or_else(error)?;
    if !matches!(unit.as_str(), "" | "%") || !(0.0..=100.0).contains(&number) {
        return Err(error());
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_tc_writes_them() {
        assert_eq!(rate("r", "10mbit").unwrap(), 1_250_000);
        assert_eq!(rate("r", "10Mbit").unwrap(), 1_250_000);
        assert_eq!(rate("r", "8000").unwrap(), 1000);
        assert_eq!(rate("r", "1.5gbit").unwrap(), 187_500_000);
        assert_eq!(rate("r", "1mbps").unwrap(), 1_000_000);
        for bad in ["", "0", "-1mbit", "10x", "mbit", "1e3mbit", "7kbit", "2tbit", "1..5mbit", "inf", "nan"] {
            assert_eq!(rate("r", bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(size("s", "32k").unwrap(), 32768);
        assert!(size("s", "1").is_err() && size("s", "2g").is_err() && size("s", "-5k").is_err());
        assert_eq!(time("t", "100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(time("t", "5").unwrap(), Duration::from_micros(5));
        assert!(time("t", "0").is_err() && time("t", "61s").is_err() && time("t", "x").is_err());
        assert!((percent("p", "0.5%").unwrap() - 0.5).abs() < 1e-9);
        assert!(percent("p", "101").is_err() && percent("p", "-1%").is_err());
        assert_eq!(show_rate(1_250_000), "10mbit");
        assert_eq!(show_rate(1_234_567), "9.88mbit");
    }
}
