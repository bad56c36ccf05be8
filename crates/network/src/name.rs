//! Names of interfaces, and the tags that say whose an object is.

use drydock_core::{Error, Result, text};

/// Longest interface name in bytes (IFNAMSIZ without the final NUL).
pub const MAX_INTERFACE: usize = 15;

/// Longest comment: nft(8) shows up to 128 bytes.
const MAX_TAG: usize = 120;
/// Longest alias: the kernel takes up to 255 bytes.
const MAX_ALIAS: usize = 255;

/// Checks an interface name before the kernel sees it: 1 to 15 bytes, printable ASCII, none of `/ : %` or space, not
/// `.` or `..`, not a name that the kernel or its sysctl tree gives another meaning (`lo`, `all`, `default`).
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] with what is allowed.
pub fn check_interface(object: &str, name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%' | b'"' | b'\'' | b'\\');
    let reserved = matches!(name, "." | ".." | "lo" | "all" | "default");
    let right = !name.is_empty()
        && name.len() <= MAX_INTERFACE
        && name.bytes().all(plain)
        && !reserved
        && !name.starts_with('-');
    if right {
        return Ok(());
    }
    let shown = text::shorten(&text::escape(name), 40);
    Err(Error::bad_input(
        object,
        format!(
            "'{shown}' is not an interface name (allowed: 1 to 15 printable characters without / : % quotes or \
             spaces; not '.', '..', 'lo', 'all', 'default')"
        ),
    ))
}

/// Checks the name of a network, which also names a file: the rule of container ids.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check_network(name: &str) -> Result<()> {
    if name.len() <= 64 && drydock_core::ContainerId::parse(name).is_ok() {
        return Ok(());
    }
    let shown = text::shorten(&text::escape(name), 40);
    Err(Error::bad_input(
        format!("network '{shown}'"),
        "not a network name (allowed: 1 to 64 of A-Z a-z 0-9 _ + . -, not '.' or '..', not starting with '-')",
    ))
}

/// Checks an owner: a container id, or a namespace's name.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check_owner(owner: &str) -> Result<()> {
    drydock_core::ContainerId::parse(owner).map(drop).map_err(|e| e.hint("give --owner ID"))
}

/// The owner that stands for a namespace or bridge name: the name itself where it follows the rule of ids, else its
/// harmless characters and a hash, so that two names never give the same owner.
pub fn owner_for(name: &str) -> String {
    if drydock_core::ContainerId::parse(name).is_ok() {
        return name.to_string();
    }
    let safe: String = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("ns-{safe}-{:010x}", hash(&[name]) >> 24)
}

/// FNV-1a over the parts with a separator, and a final mix so that every bit depends on every byte.
pub fn hash(parts: &[&str]) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ (h >> 32)
}

/// The host end of an interface of an owner in a namespace: `dd` and ten hexadecimal digits; the owner's full name is in
/// its alias. One owner may have several namespaces, and several interfaces in each.
pub fn host_link(owner: &str, netns: &std::path::Path, interface: &str) -> String {
    format!("dd{:010x}", hash(&[owner, &netns.to_string_lossy(), interface]) >> 24)
}

/// A stable locally administered link-layer address for a bridge: without one, a bridge changes its address with its
/// ports, and neighbours lose it.
pub fn bridge_mac(bridge: &str) -> [u8; 6] {
    let [a, b, c, d, ..] = hash(&["bridge", bridge]).to_be_bytes();
    [0x02, 0xdd, a, b, c, d]
}

/// A locally administered link-layer address for an interface, from its address: no two on one bridge have the same, and
/// neighbours that remember it stay right when the address is given again.
pub fn interface_mac(address: std::net::IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        std::net::IpAddr::V4(v4) => v4.octets(),
        std::net::IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = hash(&["interface", &v6.to_string()]).to_be_bytes();
            [a, b, c, d]
        }
    };
    [0x0a, 0xdd, a, b, c, d]
}

/// The tag on everything of an owner (nft comment): `drydock:OWNER`; a long owner is cut and hashed.
pub fn tag(owner: &str) -> String {
    tag_within(owner, MAX_TAG)
}

/// The tag as the alias of a link, where more fits.
pub fn alias(owner: &str) -> String {
    tag_within(owner, MAX_ALIAS)
}

fn tag_within(owner: &str, max: usize) -> String {
    let whole = format!("drydock:{owner}");
    if whole.len() <= max && whole.is_ascii() {
        return whole;
    }
    let start: String = owner.chars().filter(char::is_ascii_graphic).take(max - 40).collect();
    format!("drydock:{start}~{:016x}", hash(&[owner]))
}

/// The tag on what a network shares among its owners. No owner contains a colon, so it is nobody's tag.
pub fn network_tag(network: &str) -> String {
    tag(&format!("network:{network}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["eth0", "br-a.1", "x", "abcdefghijklmno", "veth@1"] {
            check_interface("--name", good).unwrap();
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "a\x1b",
            "eth%d",
            "lo",
            "abcdefghijklmnop",
            "é",
            "all",
            "default",
            "-x",
            "a\"b",
            "a\n",
            "a\0",
        ] {
            assert_eq!(check_interface("--name", bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn derived_names_fit() {
        let long = "x".repeat(255);
        let link = |owner, ns: &str, interface| host_link(owner, std::path::Path::new(ns), interface);
        assert_eq!(link(&long, "/run/netns/a", "eth0").len(), 12);
        assert_ne!(link("a", "/n", "eth0"), link("a", "/n", "eth1"));
        assert_ne!(link("a", "/n", "eth0"), link("a", "/m", "eth0"));
        assert_ne!(link("ab", "c", "d"), link("a", "bc", "d"));
        assert!(tag(&long).len() <= 120 && tag(&long) != tag(&"x".repeat(254)));
        assert_eq!(tag("web"), "drydock:web");
        assert!(check_owner(&owner_for("odd name;\n")).is_ok());
        assert_ne!(owner_for("a b"), owner_for("a c"));
    }
}
