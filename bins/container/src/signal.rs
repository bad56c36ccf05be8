//! Signal names.

use drydock_core::{Error, Result};

/// The number of `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn parse(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let bad = || {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input(
            "signal",
            format!("'{shown}' is not a signal (allowed: TERM, SIGTERM, 15, RTMIN+1, …)"),
        )
    };
    if let Ok(number) = name.parse::<i32>() {
        return if (1..=64).contains(&number) && !name.starts_with('+') { Ok(number) } else { Err(bad()) };
    }
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('+').and_then(|n| n.parse().ok()).ok_or_else(bad)?
        };
        return if (0..=30).contains(&offset) { Ok(34 + offset) } else { Err(bad()) };
    }
    name_to_number(name).ok_or_else(bad)
}

fn name_to_number(name: &str) -> Option<i32> {
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

/// `SIGTERM` for 15.
pub fn name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_string(),
        Err(_) => format!("SIGRTMIN+{}", number.saturating_sub(34)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, number) in
            [("TERM", 15), ("sigterm", 15), ("9", 9), ("RTMIN+1", 35), ("SIGRTMIN", 34), ("HUP", 1)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+99", "RTMIN-1", "15x", "+9"] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
