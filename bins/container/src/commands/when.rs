//! Points in time on the command line, and as they are shown. Source: RFC 3339.

use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch of `now`, `10m` (ago), `1700000000.5` or `2026-01-31T12:00:00Z`.
///
/// # Errors
/// Bad input.
pub fn parse(option: &str, text: &str) -> Result<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
    let found = match text {
        "now" => Some(now),
        _ => number(text)
            .or_else(|| crate::compose::words::duration(text).ok().map(|ago| now - ago.as_secs_f64()))
            .or_else(|| rfc3339(text)),
    };
    found.ok_or_else(|| {
        let shown = shorten(&escape(text), 40);
        let allowed = "allowed: now, 10m or 1h30m (ago), seconds since 1970, 2026-01-31T12:00:00Z";
        Error::bad_input(option, format!("'{shown}' is no time ({allowed})"))
    })
}

fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

#[allow(clippy::cast_precision_loss)] // seconds of a calendar
fn rfc3339(text: &str) -> Option<f64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let mut clock = clock.splitn(3, ':');
    let mut part = || number(clock.next()?);
    let (hour, minute, second) = (part()?, part()?, part()?);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24.0
        && minute < 60.0
        && second < 61.0;
    let offset = match zone {
        "Z" | "z" => 0.0,
        zone => {
            let (sign, rest) = zone.split_at(1);
            let (hours, minutes) = rest.split_once(':')?;
            let seconds = number(hours)? * 3600.0 + number(minutes)? * 60.0;
            if sign == "-" { -seconds } else { seconds }
        }
    };
    fits.then(|| days(year, month, day) as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second - offset)
}

/// Days since 1970-01-01: years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// `2026-01-31T12:00:00.123Z`.
pub fn show(time: f64) -> String {
    let time = Duration::try_from_secs_f64(time + 0.000_5).unwrap_or_default();
    let whole = drydock_supervise::log::timestamp(time);
    // Milliseconds of the nanoseconds.
    format!("{}Z", whole.get(..23).unwrap_or(&whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_there_and_back() {
        for text in
            ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "2026-12-31T12:30:00.5Z", "2100-03-01T00:00:00Z"]
        {
            let time = parse("--since", text).unwrap();
            assert_eq!(
                show(time).trim_end_matches('Z').trim_end_matches(['0', '.']),
                text.trim_end_matches('Z').trim_end_matches(['0', '.']),
                "{text}"
            );
        }
        assert_eq!(
            parse("--since", "2026-01-01T02:00:00+02:00").unwrap(),
            parse("--since", "2026-01-01T00:00:00Z").unwrap()
        );
        assert_eq!(parse("--since", "1700000000.5").unwrap(), 1_700_000_000.5);
        let ago = parse("--since", "now").unwrap() - parse("--since", "1h").unwrap();
        assert!((3599.0..3601.0).contains(&ago), "{ago}");
        for bad in [
            "",
            "yesterday",
            "-5m",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "1e9",
            "nan",
            "2026-01-01T25:00:00Z",
        ] {
            assert_eq!(parse("--since", bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
