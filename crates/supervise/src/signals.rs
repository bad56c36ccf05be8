//! Signals by name and number, and the rules by which they are rewritten on their way to the command.
//! Source: signal(7); the numbers are those of x86 and ARM.

use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The names of 1 to 31, in order.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names of the same signals.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const SIGSTOP: i32 = 19;
/// The first real-time signal that programs get: the C library keeps 32 and 33.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `TERM`, `SIGTERM` or `15`; `RTMIN`, `RTMIN+n`, `RTMAX-n`, `RTMAX`; names in any case.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for anything else.
pub fn parse_signal(name: &str) -> Result<i32> {
    known(name).ok_or_else(|| {
        let shown = text::shorten(&text::escape(name), 40);
        Error::bad_input(
            "signal",
            format!("'{shown}' is not one (allowed: 1 to {RTMAX}, TERM, SIGTERM, RTMIN+1, …)"),
        )
    })
}

/// `SIGTERM` for 15, `SIGRTMIN+1` for 35; a number without a name is itself.
pub fn signal_name(signal: i32) -> String {
    let plain = usize::try_from(signal).ok().and_then(|n| NAMES.get(n.checked_sub(1)?));
    match (plain, signal) {
        (Some(name), _) => format!("SIG{name}"),
        (None, RTMIN) => "SIGRTMIN".to_string(),
        (None, RTMAX) => "SIGRTMAX".to_string(),
        (None, RTMIN..RTMAX) => format!("SIGRTMIN+{}", signal - RTMIN),
        _ => signal.to_string(),
    }
}

fn known(name: &str) -> Option<i32> {
    if !name.is_empty() && name.len() <= 3 && name.bytes().all(|b| b.is_ascii_digit()) {
        return name.parse().ok().filter(|n| (1..=RTMAX).contains(n));
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == bare) {
        return i32::try_from(index + 1).ok();
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == bare) {
        return Some(*number);
    }
    real_time(bare)
}

fn real_time(bare: &str) -> Option<i32> {
    let offset = |digits: &str| {
        let plain = !digits.is_empty() && digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<i32>().ok().filter(|_| plain)
    };
    let number = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(""), _) => RTMIN,
        (_, Some("")) => RTMAX,
        (Some(rest), _) => RTMIN + offset(rest.strip_prefix('+')?)?,
        (_, Some(rest)) => RTMAX - offset(rest.strip_prefix('-')?)?,
        _ => return None,
    };
    Some(number).filter(|n| (RTMIN..=RTMAX).contains(n))
}

/// How signals are rewritten before they are passed on: `15:3` sends SIGQUIT for SIGTERM, `15:0` drops SIGTERM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct SignalMap {
    /// 0 stands for "drop".
    rules: BTreeMap<i32, i32>,
}

impl SignalMap {
    /// Rules as words `FROM:TO`; each side a name or number, TO also 0.
    ///
    /// # Errors
    /// As [`SignalMap::add`].
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<SignalMap> {
        let mut map = SignalMap::default();
        words.iter().try_for_each(|word| map.add(word.as_ref()))?;
        Ok(map)
    }

    /// Adds one rule.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for another form, an unknown signal, one that cannot be caught (SIGKILL,
    /// SIGSTOP), one that is not the command's (SIGCHLD, the C library's 32 and 33), or a second rule for a signal.
    pub fn add(&mut self, word: &str) -> Result<()> {
        let refuse = |problem: String| {
            let shown = text::shorten(&text::escape(word), 40);
            Error::bad_input("--signal-map", format!("'{shown}': {problem}"))
        };
        let (from, to) =
            word.split_once(':').filter(|(from, to)| !from.is_empty() && !to.is_empty()).ok_or_else(
                || refuse("no rule (allowed: FROM:TO, such as TERM:QUIT, or 15:0 to drop)".to_string()),
            )?;
        let side = |name: &str| {
            known(name).ok_or_else(|| {
                let shown = text::shorten(&text::escape(name), 40);
                refuse(format!("'{shown}' is not a signal (allowed: 1 to {RTMAX}, or a name such as TERM)"))
            })
        };
        let from = side(from)?;
        if let Some(why) = not_ours(from) {
            return Err(refuse(why));
        }
        let to = if to == "0" { 0 } else { side(to)? };
        if self.rules.contains_key(&from) {
            return Err(refuse(format!("a second rule for {} (allowed: one)", signal_name(from))));
        }
        self.rules.insert(from, to);
        Ok(())
    }

    /// What is sent in place of `signal`; `None` if it is dropped.
    pub fn rewrite(&self, signal: i32) -> Option<i32> {
        match self.rules.get(&signal) {
            Some(0) => None,
            Some(to) => Some(*to),
            None => Some(signal),
        }
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, by signal: what is sent instead, `None` for nothing.
    pub fn rules(&self) -> impl Iterator<Item = (i32, Option<i32>)> + '_ {
        self.rules.iter().map(|(from, to)| (*from, Some(*to).filter(|n| *n != 0)))
    }
}

/// Why a signal cannot be rewritten.
fn not_ours(signal: i32) -> Option<String> {
    match signal {
        SIGKILL | SIGSTOP => Some(format!("{} cannot be caught, so not rewritten", signal_name(signal))),
        SIGCHLD => Some("SIGCHLD tells init of its children and is not passed on".to_string()),
        32 | 33 => {
            Some(format!("{signal} is kept by the C library (allowed: RTMIN, which is {RTMIN}, and above)"))
        }
        _ => None,
    }
}

impl TryFrom<Vec<String>> for SignalMap {
    type Error = Error;
    fn try_from(words: Vec<String>) -> Result<SignalMap> {
        SignalMap::parse(&words)
    }
}

impl From<SignalMap> for Vec<String> {
    fn from(map: SignalMap) -> Vec<String> {
        map.rules.iter().map(|(from, to)| format!("{from}:{to}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("1", 1),
            ("64", 64),
            ("HUP", 1),
            ("SYS", 31),
            ("CLD", 17),
            ("SIGPOLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+1", 35),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
            ("SIGRTMAX-30", 34),
            ("32", 32),
            ("015", 15),
        ] {
            assert_eq!(parse_signal(name).unwrap(), number, "{name}");
        }
        for number in 1..=64 {
            let name = signal_name(number);
            assert_eq!(parse_signal(&name).unwrap(), number, "{name}");
        }
        for (number, name) in nix::sys::signal::Signal::iterator().map(|s| (s as i32, s.as_str())) {
            assert_eq!((parse_signal(name).unwrap(), signal_name(number).as_str()), (number, name));
        }
    }

    #[test]
    fn refuses_what_is_no_signal() {
        for bad in [
            "",
            "0",
            "65",
            "99",
            "-1",
            "+15",
            "FOO",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            " TERM",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "RTMIN+x",
            "RTMIN++1",
            "1.5",
            "0x0f",
            "99999999999999999999",
            "\x1b[2J",
            &"9".repeat(10_000),
        ] {
            let error = parse_signal(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:.20}");
            assert!(!error.to_string().contains('\x1b') && error.to_string().len() < 300);
        }
    }

    #[test]
    fn rewrites_and_drops() {
        let map = SignalMap::parse(&["15:3", "INT:0", "RTMIN+1:SIGUSR1", "HUP:KILL"]).unwrap();
        assert_eq!(map.rewrite(15), Some(3));
        assert_eq!(map.rewrite(2), None);
        assert_eq!(map.rewrite(35), Some(10));
        assert_eq!(map.rewrite(1), Some(9));
        assert_eq!(map.rewrite(3), Some(3));
        assert!(SignalMap::default().is_empty() && !map.is_empty());
        let rules: Vec<_> = map.rules().collect();
        assert_eq!(rules, [(1, Some(9)), (2, None), (15, Some(3)), (35, Some(10))]);
    }

    #[test]
    fn bad_rules() {
        for (bad, says) in [
            ("15:", "FROM:TO"),
            (":15", "FROM:TO"),
            ("15", "FROM:TO"),
            ("", "FROM:TO"),
            ("15:99", "'99'"),
            ("FOO:TERM", "'FOO'"),
            ("TERM:FOO", "'FOO'"),
            ("9:15", "SIGKILL cannot be caught"),
            ("STOP:15", "SIGSTOP cannot be caught"),
            ("CHLD:15", "SIGCHLD"),
            ("0:15", "'0'"),
            ("15:3:2", "'3:2'"),
            ("15:-1", "'-1'"),
            ("33:15", "C library"),
            ("15:00", "'00'"),
        ] {
            let error = SignalMap::parse(&[bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().contains(says), "{bad}: {error}");
        }
        let error = SignalMap::parse(&["TERM:3", "15:2"]).unwrap_err().to_string();
        assert!(error.contains("second rule for SIGTERM"), "{error}");
    }

    #[test]
    fn json_is_a_list_of_rules() {
        let map = SignalMap::parse(&["TERM:QUIT", "INT:0"]).unwrap();
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, r#"["2:0","15:3"]"#);
        assert_eq!(serde_json::from_str::<SignalMap>(&json).unwrap(), map);
        assert!(serde_json::from_str::<SignalMap>(r#"["9:1"]"#).is_err());
    }
}
