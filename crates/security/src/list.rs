//! Lists of small numbers as the kernel writes them: `0-3,7` for CPUs and memory nodes. Source: cpuset(7), "List format".

use drydock_core::{Error, Result, text};

/// How many CPUs or nodes a mask has; the kernel's largest configurations have 8192 CPUs and 1024 nodes, and
/// sched_setaffinity(2)'s classic mask holds this many.
pub const MAX: usize = 1024;

/// The numbers of a list, ascending and once each; empty for an empty text.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] on `field` for anything else than numbers and ascending ranges below [`MAX`].
pub fn parse(field: &str, list: &str) -> Result<Vec<usize>> {
    let bad = || {
        let shown = text::shorten(&text::escape(list), 60);
        let allowed = format!("numbers and ranges from 0 to {} such as 0-3,7", MAX - 1);
        Error::bad_input(field, format!("'{shown}' is not a list (allowed: {allowed})"))
    };
    let number = |word: &str| {
        let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        word.parse::<usize>().ok().filter(|n| digits && *n < MAX)
    };
    let mut present = [false; MAX];
    for part in list.trim().split(',').map(str::trim).filter(|_| !list.trim().is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low).ok_or_else(bad)?, number(high).ok_or_else(bad)?);
        if low > high {
            return Err(bad());
        }
        present.iter_mut().take(high + 1).skip(low).for_each(|p| *p = true);
    }
    Ok(present.iter().enumerate().filter(|(_, p)| **p).map(|(n, _)| n).collect())
}

/// Numbers as a list again: `0-3,7`.
pub fn show(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *n => *end = *n,
            _ => runs.push((*n, *n)),
        }
    }
    let words = runs.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(",")
}

/// Numbers as a mask: `0x8b` for 0, 1, 3 and 7.
pub fn mask(numbers: &[usize]) -> String {
    let highest = numbers.iter().max().map_or(0, |n| n / 4);
    let digit = |place: usize| {
        let bits = (0..4).filter(|bit| numbers.contains(&(place * 4 + bit)));
        char::from_digit(bits.fold(0, |sum, bit| sum | 1 << bit), 16).unwrap_or('0')
    };
    format!("0x{}", (0..=highest).rev().map(digit).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (numbers, text) in
            [(&[][..], "0x0"), (&[0], "0x1"), (&[0, 1, 3, 7], "0x8b"), (&[64], "0x10000000000000000")]
        {
            assert_eq!(mask(numbers), text);
        }
    }

    #[test]
    fn lists() {
        for (list, numbers) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3,7", vec![0, 1, 2, 3, 7]),
            ("7, 0-1,1", vec![0, 1, 7]),
            ("1023", vec![1023]),
        ] {
            assert_eq!(parse("x", list).unwrap(), numbers, "{list}");
        }
        assert_eq!(show(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
        for bad in
            ["-", "1-", "-1", "3-1", "1024", "0-99999999999", "a", "1,,2", ",", "0:1", "+1", "1 2", "0x1"]
        {
            let error = parse("execCPUAffinity.final", bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().contains("execCPUAffinity.final"), "{error}");
        }
    }
}
