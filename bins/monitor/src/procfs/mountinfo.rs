//! `/proc/PID/mountinfo`. Source: proc_pid_mountinfo(5).

use drydock_core::text::escape_bytes;
use serde::Serialize;

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Mount id.
    pub id: u64,
    /// Id of the mount that it stands on.
    pub parent: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// Which part of the file system is mounted; `net:[…]` for a namespace.
    pub root: String,
    /// Where, as the process's root directory shows it.
    pub target: String,
    /// What is mounted (device, `none`, …).
    pub source: String,
    /// File system type.
    pub fstype: String,
    /// Options of this mount.
    pub options: String,
    /// Options of the file system.
    pub super_options: String,
    /// Propagation: `private`, `shared:N`, `slave:N`, `shared:N,slave:M`, `unbindable`; N is the peer group.
    pub propagation: String,
}

/// Parses the file; malformed lines are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut m = mount.split(' ');
    let (id, parent, device) = (m.next()?.parse().ok()?, m.next()?.parse().ok()?, m.next()?);
    let (root, target, options) = (m.next()?, m.next()?, m.next()?);
    let propagation = propagation(m);
    let mut f = file_system.split(' ');
    let (fstype, source) = (f.next()?, f.next()?);
    Some(Mount {
        id,
        parent,
        device: device.to_string(),
        root: unescape(root),
        target: unescape(target),
        source: unescape(source),
        fstype: unescape(fstype),
        options: options.to_string(),
        super_options: unescape(f.next().unwrap_or("")),
        propagation,
    })
}

fn propagation<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let mut words = Vec::new();
    for field in fields {
        match field.split_once(':') {
            Some(("shared", n)) => words.push(format!("shared:{n}")),
            Some(("master", n)) => words.push(format!("slave:{n}")),
            // propagate_from names a dominating group outside of our view: a detail of slave.
            _ if field == "unbindable" => words.push("unbindable".to_string()),
            _ => {}
        }
    }
    if words.is_empty() { "private".to_string() } else { words.join(",") }
}

/// The kernel writes space, tab, newline, `#` and backslash as `\ooo`. The result is escaped for printing.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.first_chunk::<3>().filter(|_| byte == b'\\').and_then(octal);
        match octal {
            Some(value) => {
                bytes.push(value);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    escape_bytes(&bytes)
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| u8::from_str_radix(text, 8).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_escapes() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
                    40 35 0:4 net:[4026532000] /run/netns/x rw - nsfs nsfs rw\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(
            (mounts[0].target.as_str(), mounts[0].propagation.as_str()),
            ("/mnt 2", "slave:1,shared:7")
        );
        assert_eq!(mounts[0].super_options, "rw,errors=continue");
        assert_eq!(
            (mounts[1].root.as_str(), mounts[1].propagation.as_str()),
            ("net:[4026532000]", "private")
        );
    }

    #[test]
    fn malformed_lines_are_left_out_and_escapes_are_safe() {
        let bad = [
            "",
            "1",
            "1 2 3 4 5 6",
            "x 2 0:1 / / rw - a b c",
            " - ",
            "1 2 0:1 / / rw -",
            "1 2 0:1 / / rw - tmpfs",
        ];
        for line in bad {
            assert_eq!(parse(line), [], "{line}");
        }
        assert_eq!(unescape("a\\033b\\"), "a\\x1bb\\");
        assert_eq!(unescape("\\9zz\\777"), "\\9zz\\777");
        let huge = format!("1 2 0:1 / /{} rw - tmpfs t rw", "x".repeat(1 << 20));
        assert_eq!(parse(&huge).len(), 1);
    }
}
