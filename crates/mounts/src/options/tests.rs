use super::*;

fn parse(object: &str, fstype: Option<&str>, words: &[String]) -> Result<Options> {
    super::parse(object, fstype, words, Unknown::Refuse)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

#[test]
fn flags_data_and_propagation() {
    let o = parse("/dev", Some("tmpfs"), &words("nosuid ro noexec rw size=64k mode=755 rslave")).unwrap();
    assert_eq!(show(o.flags.0), "MS_NOSUID|MS_NOEXEC");
    assert_eq!(o.data_string(), "size=64k,mode=755");
    assert_eq!(o.propagation, [(Propagation::Slave, true)]);
}

#[test]
fn binds() {
    let o = parse("/x", None, &words("bind ro rbind rro rprivate noatime")).unwrap();
    assert_eq!((o.bind, o.recursive_set), (Some(true), attr::ATTR_RDONLY));
    assert_eq!(o.attributes(), (attr::ATTR_RDONLY | ATTR_NOATIME, ATTR_ATIME));
    let o = parse("/x", None, &words("rro rrw")).unwrap();
    assert_eq!((o.recursive_set, o.recursive_clear), (0, attr::ATTR_RDONLY));
}

#[test]
fn refuses_what_it_does_not_know() {
    for (fstype, text) in [
        (Some("tmpfs"), "frobnicate"),
        (Some("tmpfs"), "size=x"),
        (Some("tmpfs"), "size=0"),
        (Some("tmpfs"), "size"),
        (Some("tmpfs"), "mode=9"),
        (Some("tmpfs"), "uid=-1"),
        (Some("proc"), "size=4"),
        (Some("sysfs"), "mode=755"),
        (Some("ext4"), "a b=\u{1b}=x;"),
        (Some("ext4"), "=x"),
        (None, "size=4k"),
        (None, "rorw"),
        (Some("tmpfs"), "ro,rw"),
    ] {
        let given = if text.contains(' ') { vec![text.replace(' ', "")] } else { vec![text.to_string()] };
        match parse("/x", fstype, &given) {
            Err(e) => assert_eq!(e.exit_code(), 2, "{e}"),
            Ok(o) => assert_eq!((fstype, text), (Some("ext4"), "a b=\u{1b}=x;"), "{o:?}"),
        }
    }
    let e = parse("/x", Some("tmpfs"), &words("frobnicate")).unwrap_err().to_string();
    assert!(e.contains("unknown mount option 'frobnicate'"), "{e}");
    assert!(parse("/x", Some("ext4"), &words("data=ordered,x commit=5")).is_err());
    assert!(parse("/x", Some("ext4"), &words("data=ordered commit=5")).is_ok());
}
#[test]
fn data_of_a_tmpfs_is_nothing_to_a_bind_of_a_bundle() {
    let exact = |text: &str| super::parse("/x", None, &words(text), Unknown::Pass);
    assert!(exact("bind mode=755 size=1k").unwrap().data.is_empty());
    assert!(exact("bind frobnicate").is_err() && exact("bind mode=9").is_err());
}

#[test]
fn exact_binds_take_no_flag_of_their_source() {
    let exact = |text: &str| super::parse("/x", None, &words(text), Unknown::Pass).unwrap();
    let basic =
        attr::ATTR_RDONLY | attr::ATTR_NOSUID | attr::ATTR_NODEV | attr::ATTR_NOEXEC | attr::ATTR_NOSYMFOLLOW;
    assert_eq!(exact("bind").attributes(), (0, 0));
    assert_eq!(exact("bind dev").attributes(), (0, basic));
    assert_eq!(exact("bind ro").attributes(), (attr::ATTR_RDONLY, basic & !attr::ATTR_RDONLY));
    assert_eq!(exact("bind ro rw").attributes(), (0, basic));
    // Access times: kept unless one is asked for; then relatime is what nothing else says.
    assert_eq!(exact("bind atime").attributes(), (0, basic));
    assert_eq!(exact("bind relatime").attributes(), (0, basic | ATTR_ATIME | ATTR_NODIRATIME));
    assert_eq!(exact("bind nodiratime norelatime").attributes(), (ATTR_NODIRATIME, basic | ATTR_ATIME));
    let o = exact("rbind noatime rprivate idmap src-nofollow");
    assert_eq!((o.bind, o.id_map, o.source_link), (Some(true), Some(false), SourceLink::Bind));
    assert_eq!(o.attributes(), (ATTR_NOATIME, basic | ATTR_ATIME | ATTR_NODIRATIME));
}

#[test]
fn locked_flags_stay() {
    let locked = |text: &str, source| {
        super::parse("/x", None, &words(text), Unknown::Pass).unwrap().locked_attributes(source)
    };
    let source = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME;
    assert_eq!(locked("bind nodev", source), Ok((attr::ATTR_NODEV, attr::ATTR_NOSYMFOLLOW)));
    assert_eq!(locked("bind dev", source), Ok((0, attr::ATTR_NOSYMFOLLOW)));
    assert_eq!(locked("bind rw", source), Err(MsFlags::MS_RDONLY));
    assert_eq!(locked("bind noatime", source), Ok((0, attr::ATTR_NOSYMFOLLOW)));
    assert_eq!(locked("bind relatime", source), Err(MsFlags::MS_NOATIME));
    assert!(locked("bind strictatime", MsFlags::MS_NODIRATIME).is_err());
    assert!(locked("bind strictatime", MsFlags::empty()).is_ok());
}

#[test]
fn the_last_word_wins_and_others_words_pass() {
    let o = super::parse("/x", Some("fuse"), &words("sync async ro rw rro rrw x=1,2 fd=3"), Unknown::Pass)
        .unwrap();
    assert_eq!((show(o.flags.0), o.data_string()), ("0".to_string(), "x=1,2,fd=3".to_string()));
    assert_eq!((o.recursive_set, o.recursive_clear), (0, attr::ATTR_RDONLY));
    assert!(super::parse("/x", None, &words("bind frobnicate=1"), Unknown::Pass).is_err());
}

#[test]
fn every_listed_word_is_known() {
    for word in super::words() {
        let options = super::parse("m", Some("tmpfs"), &[word.to_string()], Unknown::Pass).unwrap();
        assert!(options.data.is_empty(), "{word}");
    }
}
