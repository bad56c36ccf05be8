//! The closure of a program, against what the real loader does.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{gcc, rootfs};
use drydock_testkit::{Sandbox, have, is_root, require};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What ldd(1) prints, as paths.
fn ldd(program: &str) -> BTreeSet<String> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let path = |line: &str| {
        let line = line.trim().split(" (0x").next().unwrap_or_default().to_string();
        line.rsplit("=> ").next().map(str::to_string).filter(|p| p.starts_with('/'))
    };
    text.lines().filter_map(path).collect()
}

#[test]
fn equals_what_ldd_says() {
    require!(have("ldd"), "ldd is not installed");
    let sandbox = Sandbox::new();
    let programs = [
        "/bin/bash",
        "/bin/ls",
        "/bin/ps",
        "/bin/cat",
        "/usr/bin/top",
        "/bin/mount",
        "/usr/bin/find",
        "/usr/bin/git",
        "/sbin/ip",
        "/bin/ss",
        "/usr/bin/perl",
        "/usr/bin/gcc",
        "/usr/bin/curl",
        "/usr/bin/openssl",
        "/usr/sbin/nft",
        "/usr/bin/strace",
        "/bin/systemctl",
    ];
    let mut compared = 0;
    for program in programs.into_iter().filter(|p| Path::new(p).exists()) {
        let expected = ldd(program);
        if expected.is_empty() {
            continue; // a script or a static program
        }
        let output = rootfs(&sandbox, &["closure", program]).success();
        let ours: BTreeSet<String> =
            output.stdout.lines().filter(|l| *l != program).map(str::to_string).collect();
        assert_eq!(ours, expected, "{program}");
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} programs to compare with");
}

#[test]
fn rpath_runpath_and_origin() {
    require!(have("gcc") && have("unshare") && is_root(), "needs gcc, unshare and root");
    let sandbox = Sandbox::new();
    let dir = sandbox.path();
    for sub in ["app/bin", "app/lib", "app/other"] {
        std::fs::create_dir_all(dir.join(sub)).unwrap();
    }
    // main → a (RUNPATH of main: not inherited) → b (by a's own RUNPATH); c by main's RPATH inherited through d.
    let built = gcc(dir, "int b(){return 1;}", &["-shared", "-fPIC", "-o", "app/other/libddb.so"])
        && gcc(
            dir,
            "int b();int a(){return b();}",
            &[
                "-shared",
                "-fPIC",
                "-o",
                "app/lib/libdda.so",
                "-Lapp/other",
                "-lddb",
                "-Wl,-rpath,$ORIGIN/../other,--enable-new-dtags",
            ],
        )
        && gcc(
            dir,
            "int a();int main(){return a()-1;}",
            &[
                "-o",
                "app/bin/new",
                "-Lapp/lib",
                "-ldda",
                "-Wl,-rpath-link,app/other,-rpath,$ORIGIN/../lib,--enable-new-dtags",
            ],
        )
        && gcc(
            dir,
            "int b();int a(){return b();}",
            &["-shared", "-fPIC", "-o", "app/lib/libddd.so", "-Lapp/other", "-lddb"],
        )
        && gcc(
            dir,
            "int a();int main(){return a()-1;}",
            &[
                "-o",
                "app/bin/old",
                "-Lapp/lib",
                "-lddd",
                "-Wl,-rpath-link,app/other,-rpath,${ORIGIN}/../lib:$ORIGIN/../other,--disable-new-dtags",
            ],
        )
        && gcc(
            dir,
            "int a();int main(){return a()-1;}",
            &[
                "-o",
                "app/bin/broken",
                "-Lapp/lib",
                "-lddd",
                "-Wl,-rpath-link,app/other,-rpath,$ORIGIN/../lib:$ORIGIN/../other,--enable-new-dtags",
            ],
        );
    assert!(built, "gcc is there but does not build");
    for (program, runs) in [("new", true), ("old", true), ("broken", false)] {
        let path = dir.join("app/bin").join(program);
        // The loader is the judge: does it run here?
        assert_eq!(Command::new(&path).status().unwrap().success(), runs, "{program} on the host");
        let output = rootfs(&sandbox, &["closure", path.to_str().unwrap()]);
        assert_eq!(output.code, Some(i32::from(!runs)), "{}", output.describe());
        let root = format!("root-{program}");
        rootfs(&sandbox, &["new", &root]).success();
        let copy = rootfs(&sandbox, &["copy", &root, path.to_str().unwrap()]);
        if runs {
            copy.success();
            rootfs(&sandbox, &["check", &root]).success();
            // The loader takes $ORIGIN from /proc/self/exe: the root needs a proc, in a mount namespace of its own.
            let script = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$1\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(dir.join(&root)).arg(&path);
            let status = command.status().unwrap();
            assert!(status.success(), "{program} in its own root");
        } else {
            // A RUNPATH is not inherited: libddd does not find libddb.
            copy.fails_with(125).says("libddb.so");
        }
    }
}

#[test]
fn scripts_bring_their_interpreter() {
    let sandbox = Sandbox::new();
    let script = sandbox.join("hello");
    std::fs::write(&script, "#!/usr/bin/env -S bash -e\necho hi\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    require!(Path::new("/usr/bin/env").exists() && have("bash"), "needs env and bash");
    rootfs(&sandbox, &["closure", "./hello"]).success().stdout_has("/bash\n").stdout_has("/env\n");
    rootfs(&sandbox, &["new", "r"]).success();
    rootfs(&sandbox, &["copy", "r", "./hello"]).success();
    rootfs(&sandbox, &["check", "r"]).success();
    if is_root() {
        let output = Command::new("chroot").arg(sandbox.join("r")).arg(&script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hi\n", "{output:?}");
    }
    std::fs::write(&script, "#!/nowhere/at/all\n").unwrap();
    rootfs(&sandbox, &["copy", "r", "./hello"]).fails_with(125).says("/nowhere/at/all");
}

/// What no header says: libraries that are opened by name, modules of the name service.
#[test]
fn what_is_asked_for_at_run_time_is_told_and_comes_on_request() {
    require!(have("gcc"), "gcc is not installed");
    let sandbox = Sandbox::new();
    let dir = sandbox.path();
    let sub = "app/glibc-hwcaps/x86-64-v2";
    std::fs::create_dir_all(dir.join(sub)).unwrap();
    let library = "int ddplug(){return 0;}";
    for place in ["app", sub] {
        let out = format!("{place}/libddplug.so.1");
        require!(
            gcc(dir, library, &["-shared", "-fPIC", "-o", &out, "-Wl,-soname,libddplug.so.1"]),
            "gcc fails"
        );
    }
    let source = "#include <dlfcn.h>\n#include <netdb.h>\nint main(int c,char**v){struct addrinfo*r;if(c>1)getaddrinfo(v[1],0,0,&r);return !dlopen(\"libddplug.so.1\",RTLD_NOW);}";
    assert!(gcc(dir, source, &["-o", "app/asks", "-ldl", "-Wl,-rpath,$ORIGIN"]));
    assert!(gcc(dir, "int main(){return 0;}", &["-o", "app/plain"]));
    // Linked with one that has variants for newer processors: all of them come along.
    assert!(gcc(
        dir,
        "int ddplug();int main(){return ddplug();}",
        &["-o", "app/linked", "app/libddplug.so.1", "-Wl,-rpath,$ORIGIN"]
    ));
    let program = |name: &str| dir.join("app").join(name).display().to_string();
    rootfs(&sandbox, &["new", "r"]).success();
    let asks = rootfs(&sandbox, &["copy", "r", &program("asks")]).success();
    let plug = program("libddplug.so.1");
    asks.clone().says("asks: libraries are opened by name").says(&format!("--with {plug}")).says("--nss");
    assert!(!sandbox.join("r").join(&plug[1..]).exists());
    assert_eq!(rootfs(&sandbox, &["copy", "r", &program("plain")]).success().stderr, "");
    rootfs(&sandbox, &["closure", &program("asks")]).success().says(&plug);
    rootfs(&sandbox, &["copy", "r", &program("asks"), "--with", &plug, "--nss"]).success();
    assert!(sandbox.join("r").join(&plug[1..]).exists());
    rootfs(&sandbox, &["check", "r"]).success();
    let host = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    assert_eq!(std::fs::read_to_string(sandbox.join("r/etc/nsswitch.conf")).unwrap(), host);
    if is_root() {
        // It finds its library in there.
        rootfs(&sandbox, &["enter", "r", "--", &program("asks")]).success();
    }
    rootfs(&sandbox, &["new", "q"]).success();
    rootfs(&sandbox, &["copy", "q", &program("linked")]).success();
    for place in ["app", sub] {
        assert!(
            sandbox
                .join("q")
                .join(dir.strip_prefix("/").unwrap())
                .join(place)
                .join("libddplug.so.1")
                .exists()
        );
    }
}
