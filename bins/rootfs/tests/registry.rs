//! A registry on the loopback: what is pushed comes back the same, cut off or not, and what is not right is not taken.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/tar.rs"]
mod tar;

use common::{command, rootfs};
use drydock_testkit::registry::Wants;
use drydock_testkit::{Registry, Sandbox, have, require};
use image::{Layout, gzip};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use tar::Tar;

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
    let registry = Registry::start(&sandbox.join("registry"), Wants::default());
    image_of(&sandbox, 6);
    rootfs(&sandbox, &["pull", "oci:img", "local"]).success();
    let name = format!("{}/team/app:v1", registry.host());
    let pushed = rootfs(&sandbox, &["push", "local", &name]).success();
    // Again: nothing is sent twice, and it is no error.
    rootfs(&sandbox, &["push", "local", &name]).success();
    let other = sandbox.join("other-data");
    let pull =
        |what: &str| drydock_testkit::run(command(&sandbox).env("DRYDOCK_DATA", &other).args(["pull", what]));
    let pulled = pull(&name).success();
    assert_eq!(pushed.stdout, pulled.stdout);
    let digest = pulled.stdout.trim().rsplit_once(": ").unwrap().1.to_string();
    pull(&format!("{}/team/app@{digest}", registry.host())).success();
    let unpack = |data: &std::path::Path, image: &str, dir: &str| {
        drydock_testkit::run(command(&sandbox).env("DRYDOCK_DATA", data).args(["unpack", image, dir]))
            .success();
    };
    unpack(&other, &name, "a");
    unpack(&sandbox.data(), "local", "b");
    rootfs(&sandbox, &["diff", "./a", "./b"]).success();
    let missing = pull(&format!("{}/team/none", registry.host())).exits(125);
    assert!(missing.stderr.contains("not in the registry"), "{}", missing.describe());
    let wrong = pull(&format!("{}/team/app@sha256:{}", registry.host(), "0".repeat(64)));
    assert_eq!(wrong.code, Some(125), "{}", wrong.describe());
    drop(registry);
    let gone = pull(&name).exits(125);
    assert_eq!(gone.stderr.lines().count(), 1, "{}", gone.describe());
}

#[test]
fn a_password_is_tried_kept_and_forgotten() {
    require!(have("docker-registry"), "docker-registry is not installed");
    let sandbox = Sandbox::new();
    let registry = Registry::start(&sandbox.join("registry"), Wants { password: true, ..Wants::default() });
    image_of(&sandbox, 1);
    rootfs(&sandbox, &["pull", "oci:img", "local"]).success();
    let (host, name) = (registry.host(), format!("{}/app", registry.host()));
    let push = |file: &str| rootfs(&sandbox, &["push", "--authfile", file, "local", &name]);
    // No password, a wrong one, no file.
    std::fs::write(sandbox.join("none.json"), "{}").unwrap();
    push("none.json").fails_with(125).says("does not allow it").says("rootfs login");
    let wrong = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dTp3cm9uZw==\"}}}}}}");
    std::fs::write(sandbox.join("wrong.json"), wrong).unwrap();
    push("wrong.json").fails_with(125).says("does not allow it");
    push("nowhere").fails_with(2);
    let login = |password: &str, more: &[&str]| {
        let mut command = command(&sandbox);
        command.args(["login", "--authfile", "auth.json", "--password-stdin"]).args(more);
        drydock_testkit::run::run_for(&mut command, password.as_bytes(), drydock_testkit::run::TIME)
    };
    login("wrong\n", &["-u", "u", &host]).exits(125).says("user name and password");
    assert!(!sandbox.join("auth.json").exists(), "a wrong password is kept");
    login("p", &[&host]).exits(2).says("--username");
    login("p", &["-u", "u", "a/b"]).exits(2);
    let output = login("p\n", &["-u", "u", &format!("http://{host}/")]).success();
    assert_eq!(output.stdout, format!("{host}: logged in as u\n"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(sandbox.join("auth.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    push("auth.json").success();
    rootfs(&sandbox, &["pull", "--authfile", "auth.json", &name]).success();
    let logout = || rootfs(&sandbox, &["logout", "--authfile", "auth.json", &host]);
    logout().success();
    push("auth.json").fails_with(125);
    logout().exits(2);
    // What else is in the file stays; one that is no such file is not written over.
    std::fs::write(sandbox.join("auth.json"), r#"{"auths":{"x":{"auth":"eA=="}},"credsStore":"y"}"#).unwrap();
    login("p", &["-u", "u", &host]).success();
    let kept = std::fs::read_to_string(sandbox.join("auth.json")).unwrap();
    assert!(kept.contains("eA==") && kept.contains("credsStore") && kept.contains(&host), "{kept}");
    std::fs::write(sandbox.join("auth.json"), "other").unwrap();
    login("p", &["-u", "u", &host]).exits(2);
    assert_eq!(std::fs::read_to_string(sandbox.join("auth.json")).unwrap(), "other");
}

#[test]
fn tls_is_believed_only_by_an_authority() {
    require!(have("docker-registry") && have("openssl"), "docker-registry or openssl is not installed");
    let sandbox = Sandbox::new();
    let registry = Registry::start(&sandbox.join("registry"), Wants { password: true, tls: true });
    image_of(&sandbox, 2);
    rootfs(&sandbox, &["pull", "oci:img", "local"]).success();
    let (host, name) = (registry.host(), format!("{}/app:v1", registry.host()));
    let (ca, auth) = (registry.ca(), ["--authfile", "auth.json"]);
    let run = |words: &[&str]| rootfs(&sandbox, &[words, &auth].concat());
    let mut login = command(&sandbox);
    login.args(["login", "-u", "u", "-p", "p", "--ca", &ca, &host]).args(auth);
    drydock_testkit::run(&mut login).success();
    // A server that nobody vouches for gets neither a password nor an image.
    run(&["push", "local", &name]).fails_with(125).says("certificate").says("--ca");
    run(&["push", "local", &name, "--ca", &ca]).success();
    run(&["pull", &name]).fails_with(125).says("certificate");
    run(&["pull", &name, "--ca", "auth.json"]).fails_with(2).says("no certificate");
    run(&["pull", &name, "--ca", "nowhere"]).fails_with(2);
    let pulled = run(&["pull", &name, "--ca", &ca]).success();
    assert!(pulled.stdout.starts_with(&name), "{}", pulled.describe());
    run(&["pull", &name, "again", "--tls-verify", "false"]).success();
    // Without the password, over TLS.
    rootfs(&sandbox, &["pull", &name, "--ca", &ca, "--authfile", "img/oci-layout"])
        .fails_with(125)
        .says("401");
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
