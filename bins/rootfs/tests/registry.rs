//! A registry on the loopback: what is pushed comes back the same, cut off or not, and what is not right is not taken.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/tar.rs"]
mod tar;

use common::{command, rootfs};
use drydock_testkit::{Sandbox, have, require};
use image::{Layout, gzip};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tar::Tar;

struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn registry(sandbox: &Sandbox, more: &str) -> Registry {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}",
        sandbox.join("registry").display()
    );
    std::fs::write(sandbox.join("registry.yml"), config).unwrap();
    let mut serve = Command::new("docker-registry");
    serve.arg("serve").arg(sandbox.join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    let registry = Registry { child: serve.spawn().unwrap(), port };
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return registry;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the registry does not come up");
}

fn image_of(sandbox: &Sandbox, layers: usize) {
    let mut layout = Layout::new(&sandbox.join("img"));
    for n in 0..layers {
        // Not compressible, so that there is something to carry.
        let mut state = n as u64 + 1;
        let text: String = (0..60_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
            })
            .collect();
        let tar = Tar::default().file(&format!("layer{n}"), &text).end();
        layout.packed(&tar, &gzip(&tar), "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    layout.finish();
}

#[test]
fn push_and_pull_are_the_same_image() {
    require!(have("docker-registry"), "docker-registry is not installed");
    let sandbox = Sandbox::new();
    let registry = registry(&sandbox, "");
    image_of(&sandbox, 6);
    rootfs(&sandbox, &["pull", "oci:img", "local"]).success();
    let name = format!("127.0.0.1:{}/team/app:v1", registry.port);
    let pushed = rootfs(&sandbox, &["push", "local", &name]).success();
    // Again: nothing is sent twice, and it is no error.
    rootfs(&sandbox, &["push", "local", &name]).success();
    let other = sandbox.join("other-data");
    let pull =
        |what: &str| drydock_testkit::run(command(&sandbox).env("DRYDOCK_DATA", &other).args(["pull", what]));
    let pulled = pull(&name).success();
    assert_eq!(pushed.stdout, pulled.stdout);
    let digest = pulled.stdout.trim().rsplit_once(": ").unwrap().1.to_string();
    pull(&format!("127.0.0.1:{}/team/app@{digest}", registry.port)).success();
    let unpack = |data: &std::path::Path, image: &str, dir: &str| {
        drydock_testkit::run(command(&sandbox).env("DRYDOCK_DATA", data).args(["unpack", image, dir]))
            .success();
    };
    unpack(&other, &name, "a");
    unpack(&sandbox.data(), "local", "b");
    rootfs(&sandbox, &["diff", "./a", "./b"]).success();
    let missing = pull(&format!("127.0.0.1:{}/team/none", registry.port)).exits(125);
    assert!(missing.stderr.contains("not in the registry"), "{}", missing.describe());
    let wrong = pull(&format!("127.0.0.1:{}/team/app@sha256:{}", registry.port, "0".repeat(64)));
    assert_eq!(wrong.code, Some(125), "{}", wrong.describe());
    drop(registry);
    let gone = pull(&name).exits(125);
    assert_eq!(gone.stderr.lines().count(), 1, "{}", gone.describe());
}

#[test]
fn a_password_is_taken_from_the_usual_file() {
    require!(have("docker-registry"), "docker-registry is not installed");
    let sandbox = Sandbox::new();
    // htpasswd's line for user "u", password "p" (bcrypt).
    let line = "u:$2y$05$fB1iQvHZVMuvH3Hn7ELmsOjkXw86a.hsJ5wfwCPr5pPQhoqY0bFpi";
    std::fs::write(sandbox.join("htpasswd"), line).unwrap();
    let more = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", sandbox.join("htpasswd").display());
    let registry = registry(&sandbox, &more);
    image_of(&sandbox, 1);
    rootfs(&sandbox, &["pull", "oci:img", "local"]).success();
    let name = format!("127.0.0.1:{}/app", registry.port);
    rootfs(&sandbox, &["push", "local", &name]).fails_with(125).says("does not allow it");
    // The header is what counts: a wrong password is refused as well.
    let auths = format!("{{\"auths\":{{\"127.0.0.1:{}\":{{\"auth\":\"dTp3cm9uZw==\"}}}}}}", registry.port);
    std::fs::write(sandbox.join("auth.json"), auths).unwrap();
    rootfs(&sandbox, &["push", "--authfile", "auth.json", "local", &name])
        .fails_with(125)
        .says("does not allow it");
    rootfs(&sandbox, &["push", "--authfile", "nowhere", "local", &name]).fails_with(2);
}

/// A registry of a few lines that cuts a layer off, forges another, and asks for a token.
fn odd_registry(layout: &Layout, forge: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = layout.dir.clone();
    let manifest = serde_json::to_vec(&layout.manifest).unwrap();
    std::thread::spawn(move || {
        let mut cut = false;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            let headers: Vec<String> =
                lines.map_while(Result::ok).take_while(|l| !l.is_empty()).map(|l| l.to_lowercase()).collect();
            let path = first.split(' ').nth(1).unwrap_or_default().to_string();
            let mut answer = |status: &str, more: &str, body: &[u8], length: usize| {
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            };
            if path.starts_with("/token") {
                answer("200 OK", "", br#"{"token":"secret"}"#, 18);
            } else if !headers.iter().any(|h| h == "authorization: bearer secret") {
                let more = format!(
                    "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\"\r\n"
                );
                answer("401 Unauthorized", &more, b"", 0);
            } else if path.contains("/manifests/") {
                answer(
                    "200 OK",
                    "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
                    &manifest,
                    manifest.len(),
                );
            } else if let Some(digest) = path.rsplit("sha256:").next() {
                let mut bytes = std::fs::read(dir.join("blobs/sha256").join(digest)).unwrap();
                if forge {
                    bytes[20] ^= 1;
                }
                let from = headers
                    .iter()
                    .find_map(|h| h.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
                match from {
                    Some(from) => answer("206 Partial Content", "", &bytes[from..], bytes.len() - from),
                    None if bytes.len() > 10_000 && !cut => {
                        cut = true;
                        answer("200 OK", "", &bytes[..9000], bytes.len());
                    }
                    None => answer("200 OK", "", &bytes, bytes.len()),
                }
            }
        }
    });
    port
}

#[test]
fn what_is_cut_off_goes_on_and_what_is_forged_is_refused() {
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox.join("img"));
    image_of(&sandbox, 1);
    let mut bytes = String::new();
    let index = std::fs::File::open(sandbox.join("img/index.json")).unwrap();
    BufReader::new(index).read_to_string(&mut bytes).unwrap();
    let index: serde_json::Value = serde_json::from_str(&bytes).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    layout.manifest =
        serde_json::from_slice(&std::fs::read(sandbox.join("img").join(digest)).unwrap()).unwrap();
    let port = odd_registry(&layout, false);
    rootfs(&sandbox, &["pull", &format!("127.0.0.1:{port}/x"), "x"]).success();
    rootfs(&sandbox, &["unpack", "x", "r"]).success();
    assert!(sandbox.join("r/layer0").is_file());
    rootfs(&sandbox, &["untag", "x"]).success();
    rootfs(&sandbox, &["gc"]).success();
    let port = odd_registry(&layout, true);
    rootfs(&sandbox, &["pull", &format!("127.0.0.1:{port}/x"), "x"]).fails_with(2).says("sha256 expected");
    assert_eq!(rootfs(&sandbox, &["list", "-q"]).success().stdout, "");
}
