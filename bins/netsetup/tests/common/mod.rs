//! A throw-away host: each test runs itself again in network and mount namespaces of its own, with an empty /run.
#![allow(dead_code)] // each test binary uses a part

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub const TOOL: &str = env!("CARGO_BIN_EXE_netsetup");
const INSIDE: &str = "DRYDOCK_NETSETUP_TEST_INSIDE";

pub fn skip(name: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("SKIP {name}: {why}\n").as_bytes());
}

pub fn have(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).exists()))
}

/// Runs `body` in a fresh host. The census after it is part of every test.
pub fn on_fresh_host(name: &str, body: impl FnOnce(&Host)) {
    if std::env::var_os(INSIDE).is_some_and(|v| v == *name) {
        let host = Host::prepare();
        body(&host);
        host.census();
        return;
    }
    if !nix::unistd::geteuid().is_root() || !have("unshare") {
        return skip(name, "needs root and unshare(1)");
    }
    let probe = Command::new("unshare").args(["--net", "--mount", "true"]).output().unwrap();
    if !probe.status.success() {
        return skip(name, "network namespaces cannot be made here");
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    for line in text.lines().filter(|l| l.starts_with("SKIP ")) {
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct Host {
    pub root: PathBuf,
}

impl Host {
    fn prepare() -> Self {
        use nix::mount::{MsFlags, mount};
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let host = Self { root: "/run/drydock-test".into() };
        let mut batch = drydock_network::netlink::Batch::new();
        batch.set_up("lo");
        drydock_network::rtnl::Rtnl::here().unwrap().execute(&batch).unwrap();
        host
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TOOL);
        command.args(args).env("DRYDOCK_ROOT", &self.root).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a line of words that must succeed.
    pub fn ok(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ran = self.run(&words);
        assert_eq!(ran.code, 0, "netsetup {line}\n{}{}", ran.out, ran.err);
        ran.out
    }

    pub fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("--json {line}"))).unwrap()
    }

    pub fn forwarding(&self) -> String {
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim().to_string()
    }

    /// Nothing of ours is left: links, rules, namespaces, leases, journals, forwarding.
    pub fn census(&self) {
        let view = self.json("show");
        let links: Vec<&str> =
            view["links"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
        let ours = |n: &&str| n.starts_with("dd") || n.starts_with("br") || *n == "drydock0";
        assert!(!links.iter().any(ours), "links left: {links:?}");
        assert_eq!(view["nft"].as_array().unwrap().len(), 0, "rules left: {}", view["nft"]);
        if have("nft") {
            let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
            assert!(!String::from_utf8_lossy(&tables.stdout).contains("drydock"), "table left");
        }
        assert_eq!(self.forwarding(), "0", "forwarding is left on");
        let names: Vec<_> =
            std::fs::read_dir("/run/netns").map(|d| d.flatten().collect()).unwrap_or_default();
        assert!(names.is_empty(), "namespaces left: {names:?}");
        let left = files(&self.root);
        assert!(left.iter().all(|f| f.ends_with("@networks/lock")), "files left: {left:?}");
    }
}

pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { all.extend(files(&entry.path())) } else { all.push(entry.path()) }
    }
    all
}

/// Runs `f` in a thread within a named namespace, or on the host.
pub fn within<T: Send + 'static>(
    ns: Option<&str>,
    f: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let path = ns.map(|n| PathBuf::from("/run/netns").join(n));
    std::thread::spawn(move || {
        if let Some(path) = path {
            let file = std::fs::File::open(path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        }
        f()
    })
}

/// A server that answers each connection with the address it came from, for as long as the test lives.
pub fn serve(ns: Option<&str>, at: &str) {
    let at: SocketAddr = at.parse().unwrap();
    let (ready, wait) = std::sync::mpsc::channel();
    within(ns, move || {
        let listener = TcpListener::bind(at).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
    wait.recv_timeout(Duration::from_secs(5)).unwrap();
}

/// Connects and returns what the server saw, or `None`.
pub fn connect(ns: Option<&str>, to: &str) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    within(ns, move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(1200)).ok()?;
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1200)));
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    })
    .join()
    .unwrap()
}

pub fn ping(ns: Option<&str>, to: &str) -> bool {
    let mut command = match ns {
        Some(ns) => {
            let mut c = Command::new(TOOL);
            c.args(["ns", "exec", ns, "ping"]);
            c
        }
        None => Command::new("ping"),
    };
    command.args(["-c1", "-W2", to]).output().unwrap().status.success()
}

/// A throw-away /etc, so that nothing of the machine's is touched.
pub fn own_etc(resolv_conf: &str) {
    use nix::mount::{MsFlags, mount};
    std::fs::create_dir("/run/etc").unwrap();
    for name in ["passwd", "group", "nsswitch.conf"] {
        let _ = std::fs::copy(format!("/etc/{name}"), format!("/run/etc/{name}"));
    }
    std::fs::write("/run/etc/hosts", "127.0.0.1 localhost\n").unwrap();
    std::fs::write("/run/etc/resolv.conf", resolv_conf).unwrap();
    mount(Some("/run/etc"), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}
