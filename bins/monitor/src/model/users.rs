//! Names of users: /etc/passwd alone, because a static program has no name service. Source: passwd(5).

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

/// More than this is not read.
const MAX_BYTES: u64 = 4 << 20;

/// The name of a user, escaped; `None` if /etc/passwd does not have it.
pub fn name(uid: u32) -> Option<String> {
    static NAMES: OnceLock<BTreeMap<u32, String>> = OnceLock::new();
    NAMES.get_or_init(|| parse(&read().unwrap_or_default())).get(&uid).cloned()
}

fn read() -> std::io::Result<String> {
    // Not through a FIFO that somebody left there.
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open("/etc/passwd")?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first name of each uid.
fn parse(text: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1).and_then(|f| f.parse().ok())) else {
            continue;
        };
        if !name.is_empty() {
            names.entry(uid).or_insert_with(|| drydock_core::text::escape(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines() {
        let names = super::parse("root:x:0:0::/:/bin/sh\ntoor:x:0:0\nbad\n:x:5:\nb\x1b:x:7:7\nx:x:y\n");
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            [(0, "root".to_string()), (7, "b\\x1b".to_string())]
        );
    }
}
