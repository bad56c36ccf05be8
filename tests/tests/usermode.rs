//! A network without root: pasta and slirp4netns, each alone and both, with packets that stay in the test's own network
//! namespace (NET-10, NET-11).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should stop

mod common;

use common::in_own_network;
use drydock_testkit::{Output, Sandbox, bin, have, require};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Becomes an ordinary user, in a mount namespace with a device that users may open, a name server on the loopback, and
/// without the programs of $HIDE.
const BECOME: &str = r#"
mount -t tmpfs tmpfs /dev/net && mknod -m "$MODE" /dev/net/tun c 10 200 || exit 99
echo nameserver 127.0.0.53 >"$DIR/resolv.conf" && mount --bind "$DIR/resolv.conf" /etc/resolv.conf || exit 99
for program in $HIDE; do
    if [ -e "/usr/bin/$program" ]; then mount --bind /dev/null "/usr/bin/$program" || exit 99; fi
done
exec setpriv --reuid 54321 --regid 54321 --clear-groups -- "$@"
"#;
const PATIENCE: Duration = Duration::from_secs(20);
/// An address of "the host" that is none of its interface with the default route, which pasta gives the container.
const OUTSIDE: &str = "203.0.113.5:7001";

struct Place {
    sandbox: Sandbox,
    hide: &'static str,
    mode: &'static str,
}

impl Place {
    fn new() -> Self {
        for line in [
            "link add up0 type veth peer name up1",
            "link set up1 up",
            "link set up0 up",
            "addr add 198.51.100.2/24 dev up0",
            "addr add 203.0.113.5/32 dev lo",
            "route add default via 198.51.100.1",
        ] {
            let output = Command::new("ip").args(line.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let place = Self { sandbox: Sandbox::new(), hide: "", mode: "666" };
        let owned = Command::new("chown").args(["-R", "54321:54321"]).arg(place.sandbox.path()).status();
        assert!(owned.unwrap().success());
        place
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", BECOME, "become"]);
        command.arg(bin("container")).args(words).current_dir(self.sandbox.path());
        command.env("HIDE", self.hide).env("MODE", self.mode).env("DIR", self.sandbox.path());
        command.env("DRYDOCK_ROOT", self.sandbox.state()).env("DRYDOCK_DATA", self.sandbox.data());
        drydock_testkit::run(&mut command)
    }

    /// A container that waits; its first process.
    fn start(&self, name: &str, options: &[&str]) -> (String, i32) {
        let name = self.sandbox.unique(name);
        let line = [&["run", "-d", "--name", &name], options, &["--", "sleep", "600"]].concat();
        self.run(&line).success();
        let shown = self.run(&["inspect", &name]).success();
        let value: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        let state = value.get(0).unwrap_or(&value);
        let pid = state["pid"].as_i64().or_else(|| state["state"]["pid"].as_i64());
        (name, pid.unwrap_or_else(|| panic!("no pid: {}", shown.stdout)).try_into().unwrap())
    }

    /// The program that moves its packets ends with it, and nothing else stays.
    fn end(&self, name: &str) {
        self.run(&["delete", "--force", name]).success();
        self.sandbox.wait_until("no helper is left", || helpers().is_empty());
        self.run(&["gc", "--check"]).success();
    }
}

/// Programs of the user's that move packets.
fn helpers() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let status = read("status");
        let user = status.lines().any(|l| l.starts_with("Uid:") && l.contains("54321"));
        let comm = read("comm");
        if user
            && (comm.starts_with("pas") || comm.starts_with("slirp4netns"))
            && is_of_this_network(&entry.path())
        {
            found.push(format!("{} {comm}", entry.path().display()));
        }
    }
    found
}

/// Whether the process started in this thread's network namespace: pasta and slirp4netns stay in it.
fn is_of_this_network(process: &Path) -> bool {
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    std::fs::read_link(process.join("ns/net")).is_ok_and(|net| net == own)
}

/// Runs `act` in the network of a process, or here.
fn within<T: Send + 'static>(
    pid: Option<i32>,
    act: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        if let Some(pid) = pid {
            let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        }
        act()
    })
}

/// Answers every connection with the address that it came from.
fn serve(pid: Option<i32>, at: &str) {
    let at: SocketAddr = at.parse().unwrap();
    let (ready, wait) = std::sync::mpsc::channel();
    within(pid, move || {
        let listener = TcpListener::bind(at).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.peer_addr().map(|peer| stream.write_all(peer.ip().to_string().as_bytes()));
        }
    });
    wait.recv_timeout(PATIENCE).unwrap();
}

/// The address that a server saw.
fn connect(pid: Option<i32>, to: &str, patience: Duration) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let asked = within(pid, move || {
        let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    });
    asked.join().unwrap()
}

/// Sends a datagram until it is answered with the address that it came from.
fn datagram(published: &str) -> Option<IpAddr> {
    let to = published.rsplit_once(':').unwrap().0;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for _ in 0..20 {
        socket.send_to(b"?", to).unwrap();
        let mut answer = [0; 64];
        if let Ok((length, _)) = socket.recv_from(&mut answer) {
            return String::from_utf8_lossy(answer.get(..length)?).parse().ok();
        }
    }
    None
}

fn serve_datagrams(pid: i32, at: &'static str) {
    let (ready, wait) = std::sync::mpsc::channel();
    within(Some(pid), move || {
        let socket = UdpSocket::bind(at).unwrap();
        ready.send(()).unwrap();
        let mut question = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
    wait.recv_timeout(PATIENCE).unwrap();
}

macro_rules! needs_programs {
    ($($program:literal),*) => {
        require!(drydock_testkit::is_root(), "needs root, to become an ordinary user");
        require!(have("ip") && have("setpriv") $(&& have($program))*, concat!("needs ip, setpriv", $(", ", $program),*));
        let probe = "mount -t tmpfs t /dev/net && mknod /dev/net/tun c 10 200 && exec 3<>/dev/net/tun";
        let tun = Command::new("unshare").args(["--mount", "sh", "-c", probe]).output();
        require!(tun.is_ok_and(|o| o.status.success()), "this kernel has no /dev/net/tun");
        let user = ["--reuid", "54321", "--regid", "54321", "--clear-groups", "unshare", "--user", "true"];
        let allowed = Command::new("setpriv").args(user).output();
        require!(allowed.is_ok_and(|o| o.status.success()), "user namespaces are not allowed here");
    };
}

/// Ports in, connections out, the name server, and what must not be reached.
fn works(place: &Place, program: &str, udp: &str, resolver: &str) {
    let (name, pid) = place.start(program, &["--net", "pasta", "-p", "7100:7200", "-p", udp]);
    assert_eq!(helpers().len(), 1);
    assert!(place.run(&["inspect", &name]).stdout.contains(program));
    place.run(&["exec", &name, "cat", "/etc/resolv.conf"]).success().stdout_has(resolver);
    serve(Some(pid), "0.0.0.0:7200");
    serve_datagrams(pid, "0.0.0.0:7201");
    let from = connect(None, "127.0.0.1:7100", PATIENCE).expect("the published port answers");
    let from_datagram = datagram(udp).expect("the published UDP port answers");
    if program == "slirp4netns" {
        assert!(!from.is_loopback() && !from_datagram.is_loopback(), "{from} {from_datagram}");
    }
    assert!(connect(None, "198.51.100.2:7100", Duration::from_secs(1)).is_none(), "only on the loopback");
    assert!(connect(Some(pid), OUTSIDE, PATIENCE).is_some(), "there is a way out");
    for inside in ["127.0.0.1:7300", "10.0.2.2:7300", "198.51.100.1:7300", "169.254.1.1:7300"] {
        assert_eq!(
            connect(Some(pid), inside, Duration::from_secs(1)),
            None,
            "the host's loopback at {inside}"
        );
    }
    place.end(&name);
    assert!(TcpListener::bind("127.0.0.1:7100").is_ok(), "the port is free again");
}

/// Each alone, both, and neither: the default root file system is built once for all.
#[test]
fn networks_without_root() {
    needs_programs!("pasta", "slirp4netns");
    in_own_network(|| {
        let mut place = Place::new();
        serve(None, OUTSIDE);
        serve(None, "127.0.0.1:7300");
        place.hide = "slirp4netns";
        works(&place, "pasta", "127.0.0.1:7101:7201/udp", "169.254.1.1");
        place.hide = "pasta";
        works(&place, "slirp4netns", "203.0.113.5:7101:7201/udp", "10.0.2.3");
        a_port_that_is_taken(&place);
        place.hide = "";
        whichever_is_taken_no_origin_is_hidden(&place);
        what_is_missing_is_named(&mut place);
        its_death_leaves_nothing(&place);
    });
}

fn a_port_that_is_taken(place: &Place) {
    let _taken = TcpListener::bind("127.0.0.1:7100").unwrap();
    let ran = place.run(&["run", "--rm", "--net", "slirp4netns", "-p", "7100:80", "--", "true"]);
    ran.exits(125).says("127.0.0.1:7100:80/tcp").says("in use");
    place.run(&["gc", "--check"]).success();
    assert_eq!(helpers(), Vec::<String>::new());
}

fn whichever_is_taken_no_origin_is_hidden(place: &Place) {
    let (name, pid) = place.start("both", &["-p", "7100:7200"]);
    serve(Some(pid), "0.0.0.0:7200");
    let from = connect(None, "127.0.0.1:7100", PATIENCE).expect("the published port answers");
    assert!(!from.is_loopback(), "{from}");
    place.end(&name);
}

fn what_is_missing_is_named(place: &mut Place) {
    place.hide = "pasta slirp4netns";
    for options in [&["--net", "pasta"][..], &["-p", "7100:80"]] {
        let ran = place.run(&[&["run", "--rm"], options, &["--", "true"]].concat());
        ran.exits(2).says("pasta or slirp4netns").says("apt install passt");
    }
    let ran = place.run(&["run", "--rm", "--net", "slirp4netns", "--", "true"]);
    ran.exits(2).says("apt install slirp4netns");
    (place.hide, place.mode) = ("", "600");
    let ran = place.run(&["run", "--rm", "--net", "pasta", "--", "true"]);
    ran.exits(125).says("/dev/net/tun").says("chmod 0666");
    place.run(&["gc", "--check"]).success();
    place.mode = "666";
}

/// The process that looks after the container is killed: its helper ends, at the latest by gc.
fn its_death_leaves_nothing(place: &Place) {
    for net in ["pasta", "slirp4netns"] {
        let (_, pid) = place.start("lost", &["--net", net]);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        place.sandbox.wait_until("it is dead", || !Path::new(&format!("/proc/{pid}/ns/net")).exists());
        place.run(&["gc"]).success();
        place.sandbox.wait_until("no helper is left", || helpers().is_empty());
        place.run(&["gc", "--check"]).success();
    }
}
