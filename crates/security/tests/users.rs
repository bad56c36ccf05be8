//! `--user` against root file systems that an attacker wrote.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as tests do

use drydock_security::user::{Resolved, resolve, resolve_group};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

static NEXT: AtomicU32 = AtomicU32::new(0);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\n:x:1:1::/:\nbad:x:notanumber:1::/:\nminus:x:-1:-1::/:\nbig:x:4294967295:1::/:\nshort:x:5\n\
    web:x:33:34:Web,,,:/var/www:/usr/sbin/nologin\nweb:x:99:99::/second:\n\
    relhome:x:40:40::relative/dir:\nnohome:x:41:41\n1000:x:7:7::/seven:\nlast:x:50:50::/last:/bin/sh";
const GROUP: &str = "root:x:0:\nadm:x:4:web,other\nbroken\nstaff:x:50:web\nlike:x:60:webb,aweb\ndup:x:4:web\nbig:x:4294967295:web\n";

struct Root(PathBuf);

impl Root {
    fn empty() -> Root {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("drydock-users-{}-{n}", std::process::id()));
        fs::create_dir_all(path.join("etc")).unwrap();
        Root(path)
    }

    fn with(passwd: &str, group: &str) -> Root {
        let root = Root::empty();
        fs::write(root.0.join("etc/passwd"), passwd).unwrap();
        fs::write(root.0.join("etc/group"), group).unwrap();
        root
    }

    fn resolve(&self, spec: &str) -> drydock_core::Result<Resolved> {
        let started = Instant::now();
        let result = resolve(spec, fs::File::open(&self.0).unwrap().as_fd());
        // An emulated machine is about ten times slower.
        let limit = if std::env::var_os("DRYDOCK_VM").is_some() { 10_000 } else { 1000 };
        assert!(started.elapsed().as_millis() < limit, "{spec}: {:?}", started.elapsed());
        if let Err(error) = &result {
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.to_string().len() < 400 && !error.to_string().contains(['\n', '\x1b']), "{error}");
        }
        result
    }

    fn ids(&self, spec: &str) -> (u32, u32, Vec<u32>) {
        let user = self.resolve(spec).unwrap().user;
        (user.uid, user.gid, user.additional_gids)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn names_and_numbers() {
    let root = Root::with(PASSWD, GROUP);
    assert_eq!(root.ids(""), (0, 0, vec![]));
    assert_eq!(root.ids("root"), (0, 0, vec![]));
    assert_eq!(root.ids("web"), (33, 34, vec![4, 50]));
    assert_eq!(root.ids("33"), (33, 34, vec![4, 50]));
    assert_eq!(root.ids("web:adm"), (33, 4, vec![]));
    assert_eq!(root.ids("web:1234"), (33, 1234, vec![]));
    assert_eq!(root.ids("12345"), (12345, 0, vec![]));
    assert_eq!(root.ids("12345:staff"), (12345, 50, vec![]));
    assert_eq!(root.ids("4294967294:4294967294"), (4_294_967_294, 4_294_967_294, vec![]));
    // A number is an id, never a name.
    assert_eq!(root.ids("1000"), (1000, 0, vec![]));
    assert_eq!(root.ids("last"), (50, 50, vec![]));
    let web = root.resolve("33:33").unwrap();
    assert_eq!((web.home.as_path(), web.name.as_deref()), ("/var/www".as_ref(), Some("web")));
    assert_eq!(root.resolve("relhome").unwrap().home.as_os_str(), "/");
    assert_eq!(root.resolve("nohome").unwrap().home.as_os_str(), "/");
    let dir = fs::File::open(&root.0).unwrap();
    assert_eq!(resolve_group("adm", dir.as_fd()).unwrap(), 4);
    assert_eq!(resolve_group("77", dir.as_fd()).unwrap(), 77);
    assert!(resolve_group("nogroup", dir.as_fd()).is_err());
}

#[test]
fn bad_input() {
    let root = Root::with(PASSWD, GROUP);
    for bad in [
        "nobody",
        "web:nogroup",
        "1:2:3",
        ":",
        "web:",
        ":adm",
        "-1",
        "4294967295",
        "4294967296",
        "0:4294967295",
        "99999999999999999999999",
        "+5",
        "0x10",
        " ",
        "web ",
        "a\nb",
        "\x1b[2J",
        "../../etc/passwd",
        "minus",
        "bad",
        "big",
        "broken:broken",
        "#",
        "web:-1",
        &"x".repeat(100_000),
    ] {
        assert!(root.resolve(bad).is_err(), "{bad:.40}");
    }
}

#[test]
fn missing_files() {
    let root = Root::empty();
    assert_eq!(root.ids("root"), (0, 0, vec![]));
    assert_eq!(root.ids("7"), (7, 0, vec![]));
    assert_eq!(root.ids("7:8"), (7, 8, vec![]));
    assert!(root.resolve("web").unwrap_err().to_string().contains("/etc/passwd"));
    fs::remove_dir(root.0.join("etc")).unwrap();
    assert_eq!(root.ids("7"), (7, 0, vec![]));
    fs::write(root.0.join("etc"), "a file").unwrap();
    assert_eq!(root.ids("7"), (7, 0, vec![]));
}

#[test]
fn hostile_files_are_refused_at_once() {
    type Plant = fn(&std::path::Path);
    let plants: [(&str, Plant); 6] = [
        ("fifo", |p| nix::unistd::mkfifo(p, nix::sys::stat::Mode::S_IRUSR).unwrap()),
        ("sparse 4 GiB", |p| fs::File::create(p).unwrap().set_len(4 << 30).unwrap()),
        ("directory", |p| fs::create_dir(p).unwrap()),
        ("link to itself", |p| symlink("passwd", p).unwrap()),
        ("link into proc", |p| symlink("/proc/self/environ", p).unwrap()),
        ("socket", |p| drop(std::os::unix::net::UnixListener::bind(p).unwrap())),
    ];
    for (what, plant) in plants {
        let root = Root::with("", "root:x:0:\n");
        let passwd = root.0.join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        plant(&passwd);
        assert!(root.resolve("web").is_err(), "{what}");
        // Both ids are known: the file adds nothing that matters.
        assert_eq!(root.ids("5:6"), (5, 6, vec![]), "{what}");
        // The same as group file.
        let root = Root::with(PASSWD, "");
        let group = root.0.join("etc/group");
        fs::remove_file(&group).unwrap();
        plant(&group);
        assert!(root.resolve("0:staff").is_err(), "{what}");
        if !what.starts_with("link") {
            assert!(root.resolve("web").is_err(), "{what}: groups of a user must not be guessed");
        }
    }
}

#[test]
fn links_stay_inside_the_root() {
    // A marker outside, and a link that would reach it if `..` or `/` left the root.
    let outside = Root::with("evil:x:666:666::/:\n", "");
    let target = outside.0.join("etc/passwd");
    for link in
        [target.clone(), PathBuf::from("../../../../../../../..").join(target.strip_prefix("/").unwrap())]
    {
        let root = Root::empty();
        symlink(&link, root.0.join("etc/passwd")).unwrap();
        assert!(root.resolve("evil").is_err(), "{link:?}");
    }
    // An absolute link means the container's own file.
    let root = Root::empty();
    fs::create_dir(root.0.join("data")).unwrap();
    fs::write(root.0.join("data/users"), "inner:x:7:7::/:\n").unwrap();
    symlink("/data/users", root.0.join("etc/passwd")).unwrap();
    assert_eq!(root.ids("inner"), (7, 7, vec![]));
    // A link to the host's own passwd finds nothing of the host.
    let root = Root::empty();
    symlink("/../../../etc/passwd", root.0.join("etc/passwd")).unwrap();
    assert!(root.resolve("daemon").is_err());
    // The directory itself may be a link.
    let root = Root::empty();
    fs::remove_dir(root.0.join("etc")).unwrap();
    symlink(outside.0.join("etc"), root.0.join("etc")).unwrap();
    assert!(root.resolve("evil").is_err());
}

#[test]
fn devices_are_not_read() {
    let root = Root::empty();
    let mode = nix::sys::stat::Mode::S_IRUSR;
    let zero = nix::sys::stat::makedev(1, 5);
    let path = root.0.join("etc/passwd");
    if let Err(error) = nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, zero) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "SKIP devices_are_not_read: mknod: {error}");
        return;
    }
    assert!(root.resolve("web").unwrap_err().to_string().contains("a device"));
}

#[test]
fn long_lines_and_many_members() {
    let members: String = (0..1_000_000).map(|n| format!("u{n},")).collect();
    let root = Root::with(PASSWD, &format!("huge:x:9:{members}web\nadm:x:4:web\n"));
    assert_eq!(root.ids("web"), (33, 34, vec![4, 9]));
    let line = "x".repeat(8 << 20);
    let root = Root::with(&format!("{line}\nweb:x:33:33:{}:/w:/b\n", &line[..1 << 20]), "");
    assert_eq!(root.ids("web"), (33, 33, vec![]));
    let root = Root::with(&"web:".repeat(3 << 20), "");
    assert!(root.resolve("web").is_err());
    // More groups than a process can have.
    let groups: String = (1..70_000).map(|n| format!("g{n}:x:{n}:web\n")).collect();
    assert!(Root::with(PASSWD, &groups).resolve("web").unwrap_err().to_string().contains("65536"));
}

#[test]
fn bytes_that_are_not_text() {
    let root = Root::empty();
    let mut bytes =
        b"\xff\xfe:x:5:5::/:\n\0\0\0\nweb:x:33:33::/w\x1b[2J:/bin/sh\nutf:x:34:34::/\xff:\n".to_vec();
    bytes.extend(std::iter::repeat_n(0u8, 4096));
    fs::write(root.0.join("etc/passwd"), bytes).unwrap();
    let web = root.resolve("web").unwrap();
    assert_eq!(web.home.as_os_str(), "/", "a home with control characters is not passed on");
    assert_eq!(root.resolve("utf").unwrap().home.as_os_str(), "/");
    assert_eq!(root.resolve("5:5").unwrap().name, None);
}
