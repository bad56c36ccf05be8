//! Where libraries are looked for in a root that is not this host: musl, glibc-hwcaps, ld.so.conf, $LIB.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{gcc, rootfs};
use drydock_testkit::{Sandbox, have, require};
use std::path::{Path, PathBuf};

/// A root with a program that needs `libddx.so` and the given interpreter; neither exists on the host.
fn root(sandbox: &Sandbox, interpreter: &str, flags: &[&str]) -> PathBuf {
    let root = sandbox.join("r");
    for dir in ["bin", "etc", "lib", "usr/lib"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    let linker = format!("-Wl,--dynamic-linker={interpreter}");
    let loader = root.join(interpreter.trim_start_matches('/'));
    std::fs::create_dir_all(loader.parent().unwrap()).unwrap();
    let dir = sandbox.path();
    assert!(gcc(dir, "int x(){return 1;}", &["-nostdlib", "-shared", "-fPIC", "-o", "libddx.so"]));
    assert!(gcc(
        dir,
        "int l(){return 1;}",
        &["-nostdlib", "-shared", "-fPIC", "-o", loader.to_str().unwrap()]
    ));
    let mut args = vec!["-nostdlib", "-o", "r/bin/program", "-L.", "-lddx", "-Wl,-e,main", &linker];
    args.extend(flags);
    assert!(gcc(dir, "int x();int main(){return x();}", &args));
    root
}

/// With the library at `place` the root is whole; without it, the library is named.
#[track_caller]
fn is_found_at(sandbox: &Sandbox, root: &Path, place: &str, found: bool) {
    let file = root.join(place.trim_start_matches('/'));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::copy(sandbox.join("libddx.so"), &file).unwrap();
    let output = rootfs(sandbox, &["check", "r"]);
    assert_eq!(output.code, Some(i32::from(!found)), "{place}: {}", output.describe());
    std::fs::remove_file(&file).unwrap();
    rootfs(sandbox, &["check", "r"]).exits(1).stdout_has("libddx.so");
}

#[test]
fn musl() {
    require!(have("gcc"), "needs gcc");
    let sandbox = Sandbox::new();
    let root = root(&sandbox, "/lib/ld-musl-x86_64.so.1", &[]);
    for place in ["/lib/libddx.so", "/usr/local/lib/libddx.so", "/usr/lib/libddx.so"] {
        is_found_at(&sandbox, &root, place, true);
    }
    is_found_at(&sandbox, &root, "/lib64/libddx.so", false);
    is_found_at(&sandbox, &root, "/opt/my/libddx.so", false);
    std::fs::write(root.join("etc/ld-musl-x86_64.path"), "/opt/my\n/lib\n").unwrap();
    is_found_at(&sandbox, &root, "/opt/my/libddx.so", true);
    is_found_at(&sandbox, &root, "/usr/lib/libddx.so", false);
}

#[test]
fn glibc() {
    require!(have("gcc"), "needs gcc");
    let sandbox = Sandbox::new();
    let root = root(&sandbox, "/lib64/ld-drydock.so.2", &[]);
    for place in ["/lib/libddx.so", "/usr/lib64/libddx.so", "/usr/lib/glibc-hwcaps/some-v3/libddx.so"] {
        is_found_at(&sandbox, &root, place, true);
    }
    is_found_at(&sandbox, &root, "/opt/my/libddx.so", false);
    std::fs::create_dir_all(root.join("etc/ld.so.conf.d")).unwrap();
    std::fs::write(root.join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n").unwrap();
    std::fs::write(root.join("etc/ld.so.conf.d/my.conf"), "# mine\n/opt/my # here\n").unwrap();
    is_found_at(&sandbox, &root, "/opt/my/libddx.so", true);
    // A library for another machine is passed over, as the loader does.
    let mut other = std::fs::read(sandbox.join("libddx.so")).unwrap();
    other[18] ^= 0x55;
    std::fs::write(root.join("lib/libddx.so"), other).unwrap();
    is_found_at(&sandbox, &root, "/usr/lib/libddx.so", true);
}

#[test]
fn run_paths_of_the_root() {
    require!(have("gcc"), "needs gcc");
    let sandbox = Sandbox::new();
    let root = root(&sandbox, "/lib64/ld-drydock.so.2", &["-Wl,-rpath,/usr/$LIB/own:${ORIGIN}/../opt"]);
    is_found_at(&sandbox, &root, "/usr/lib64/own/libddx.so", true);
    is_found_at(&sandbox, &root, "/opt/libddx.so", true);
    is_found_at(&sandbox, &root, "/opt/other/libddx.so", false);
    // The program's own place is where it really is, not where a link to it is.
    std::fs::create_dir_all(root.join("deep/er/bin")).unwrap();
    std::fs::rename(root.join("bin/program"), root.join("deep/er/bin/program")).unwrap();
    std::os::unix::fs::symlink("/deep/er/bin/program", root.join("bin/program")).unwrap();
    is_found_at(&sandbox, &root, "/deep/er/opt/libddx.so", true);
    is_found_at(&sandbox, &root, "/opt/libddx.so", false);
}
