//! What a namespace link says: `net:[4026531833]`. Source: namespaces(7), "The /proc/pid/ns/ directory".

/// The type and the inode number; `None` if the text is not such a link.
pub fn parse(link: &str) -> Option<(&str, u64)> {
    let (kind, rest) = link.split_once(":[")?;
    let inode = rest.strip_suffix(']')?.parse().ok()?;
    (!kind.is_empty()).then_some((kind, inode))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn links() {
        assert_eq!(parse("net:[4026531833]"), Some(("net", 4_026_531_833)));
        for bad in [
            "",
            "net",
            "net:[",
            "net:[]",
            "net:[x]",
            ":[1]",
            "net:[1",
            "net:[99999999999999999999]",
            "socket:1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        // Sockets and pipes look alike; the caller knows the eight types.
        assert_eq!(parse("socket:[12]"), Some(("socket", 12)));
    }
}
