//! Images: layouts, archives and the store; what could be taken for two things is refused.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;
#[path = "common/image.rs"]
mod image;
#[path = "common/tar.rs"]
mod tar;

use common::{command, rootfs};
use drydock_testkit::Sandbox;
use image::{Layout, gzip, zstd};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use tar::Tar;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn small() -> Vec<u8> {
    Tar::default().dir("etc", 0o755).file("etc/x", "1").end()
}

/// A change to an image that makes it wrong.
type Break<'b> = &'b dyn Fn(&mut Layout);

#[test]
fn wrong_images_are_refused_by_name_and_nothing_is_made() {
    let sandbox = Sandbox::new();
    let zeros = "0".repeat(64);
    let cases: [(&str, Break<'_>, &str); 13] = [
        (
            "digest",
            &|l| l.manifest["layers"][0]["digest"] = format!("sha256:{zeros}").into(),
            "does not exist",
        ),
        ("algorithm", &|l| l.manifest["layers"][0]["digest"] = "md5:aa".into(), "algorithm 'md5'"),
        ("traversal", &|l| l.manifest["layers"][0]["digest"] = "sha256:../../x".into(), "is not a SHA-256"),
        (
            "upper case",
            &|l| l.manifest["layers"][0]["digest"] = format!("sha256:{}", "A".repeat(64)).into(),
            "is not a SHA-256",
        ),
        ("size", &|l| l.manifest["layers"][0]["size"] = 5.into(), "layer 1: blob: size expected 5"),
        ("negative size", &|l| l.manifest["layers"][0]["size"] = (-1).into(), "manifest"),
        (
            "diff id",
            &|l| l.config["rootfs"]["diff_ids"][0] = format!("sha256:{zeros}").into(),
            "layer 1: diff id: sha256 expected 0000",
        ),
        ("count", &|l| l.config["rootfs"]["diff_ids"] = json!([]), "0 for 1 layers"),
        ("no layers", &|l| drop(l.manifest.as_object_mut().unwrap().remove("layers")), "/layers: required"),
        ("both", &|l| l.manifest["manifests"] = json!([]), "both manifests and layers"),
        (
            "called an index",
            &|l| l.manifest["mediaType"] = "application/vnd.oci.image.index.v1+json".into(),
            "is a manifest, but called",
        ),
        ("schema", &|l| l.manifest["schemaVersion"] = 1.into(), "schema 1"),
        ("media type", &|l| l.manifest["layers"][0]["mediaType"] = "text/plain".into(), "is no layer"),
    ];
    for (n, (what, wrong, says)) in cases.iter().enumerate() {
        let dir = sandbox.join(&format!("img{n}"));
        let mut layout = Layout::new(&dir);
        layout.packed(&small(), &gzip(&small()), GZIP);
        wrong(&mut layout);
        layout.finish();
        let output = rootfs(&sandbox, &["unpack", &format!("oci:{}", dir.display()), "r"]).exits(2);
        assert!(output.stderr.contains(says), "{what}: {}", output.describe());
        assert!(!sandbox.join("r").exists(), "{what}");
        rootfs(&sandbox, &["pull", &format!("oci:{}", dir.display()), "x"]).says("");
    }
    // A blob whose bytes are others.
    let mut layout = Layout::new(&sandbox.join("forged"));
    layout.layer(&small());
    layout.finish();
    let name = layout.manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let mut forged = small();
    forged[1024] ^= 1;
    std::fs::write(sandbox.join("forged").join(name), forged).unwrap();
    rootfs(&sandbox, &["unpack", "oci:forged", "r"]).fails_with(2).says("sha256 expected");
    rootfs(&sandbox, &["pull", "oci:forged", "x"]).fails_with(2).says("sha256 expected");
    rootfs(&sandbox, &["unpack", "oci:nowhere", "r"]).fails_with(2);
    rootfs(&sandbox, &["unpack", "nobody", "r"]).fails_with(2).says("rootfs pull");
}

#[test]
fn a_platform_is_chosen_from_an_index() {
    let sandbox = Sandbox::new();
    let mut entries = Vec::new();
    for arch in ["amd64", "arm64"] {
        let mut layout = Layout::new(&sandbox.join("img"));
        layout.layer(&Tar::default().file("arch", arch).end());
        layout.config["architecture"] = arch.into();
        let mut entry = layout.write();
        entry["platform"] = json!({ "os": "linux", "architecture": arch });
        entries.push(entry);
    }
    let layout = Layout::new(&sandbox.join("img"));
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": entries })).unwrap();
    let nested = layout.blob(&index, "application/vnd.oci.image.index.v1+json");
    for (n, list) in [entries, vec![nested]].iter().enumerate() {
        layout.index(list);
        for arch in ["amd64", "arm64"] {
            let dir = format!("r{n}{arch}");
            rootfs(&sandbox, &["unpack", "--platform", &format!("linux/{arch}"), "oci:img", &dir]).success();
            assert_eq!(std::fs::read_to_string(sandbox.join(&dir).join("arch")).unwrap(), arch);
        }
        rootfs(&sandbox, &["unpack", "--platform", "linux/s390x", "oci:img", "r"])
            .fails_with(2)
            .says("linux/amd64, linux/arm64");
    }
}

#[test]
fn every_compression_and_every_archive_is_the_same_image() {
    let sandbox = Sandbox::new();
    let tar =
        Tar::default().dir("d", 0o750).file("d/f", "content").symlink("l", "d/f").hard("h", "d/f").end();
    for (name, packed, kind) in [
        ("plain", tar.clone(), "application/vnd.oci.image.layer.v1.tar"),
        ("gzip", gzip(&tar), GZIP),
        ("zstd", zstd(&tar), "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("docker", gzip(&tar), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ] {
        let mut layout = Layout::new(&sandbox.join(name));
        layout.packed(&tar, &packed, kind).finish();
        rootfs(&sandbox, &["unpack", &format!("oci:{name}"), &format!("r-{name}")]).success();
        rootfs(&sandbox, &["diff", "./r-plain", &format!("./r-{name}")]).success();
    }
    rootfs(&sandbox, &["pull", "oci:gzip", "one"]).success();
    rootfs(&sandbox, &["push", "one", "oci-archive:one.tar:tag"]).success();
    rootfs(&sandbox, &["push", "one", "docker-archive:docker.tar:me/one:1"]).success();
    for gz in ["one.tar", "docker.tar"] {
        std::fs::write(sandbox.join(&format!("{gz}.gz")), gzip(&std::fs::read(sandbox.join(gz)).unwrap()))
            .unwrap();
    }
    for (n, source) in [
        "oci-archive:one.tar:tag",
        "./one.tar",
        "docker-archive:docker.tar",
        "docker-archive:docker.tar:me/one:1",
        "./docker.tar.gz",
        "one.tar.gz",
        "one",
    ]
    .iter()
    .enumerate()
    {
        rootfs(&sandbox, &["unpack", source, &format!("a{n}")]).success();
        rootfs(&sandbox, &["diff", "./r-plain", &format!("./a{n}")]).success();
    }
    rootfs(&sandbox, &["unpack", "docker-archive:docker.tar:other", "x"]).fails_with(2).says("me/one:1");
    // Through docker's format and back it is an image again.
    rootfs(&sandbox, &["pull", "docker-archive:docker.tar"]).success();
    let list = rootfs(&sandbox, &["list", "--quiet"]).success();
    assert_eq!(list.stdout, "me/one:1\none\n");
}

#[test]
fn packing_is_reproducible_and_a_layer_has_only_what_changed() {
    let sandbox = Sandbox::new();
    for dir in ["a", "b"] {
        let root = sandbox.join(dir);
        std::fs::create_dir_all(root.join("usr/share/long-name").join("n".repeat(120))).unwrap();
        std::fs::write(root.join("f"), "same").unwrap();
        std::fs::hard_link(root.join("f"), root.join("g")).unwrap();
    }
    let pack = |args: &[&str]| {
        let output =
            drydock_testkit::run(command(&sandbox).env("SOURCE_DATE_EPOCH", "1000000000").args(args));
        output.success().stdout.split_whitespace().nth(1).unwrap().to_string()
    };
    assert_eq!(
        pack(&["pack", "a", "oci:l:one"]),
        pack(&["pack", "b", "oci:l:two"]),
        "the same files, the same digest"
    );
    pack(&["pack", "a", "base"]);
    rootfs(&sandbox, &["unpack", "base", "c"]).success();
    std::fs::write(sandbox.join("c/new"), "x").unwrap();
    std::fs::remove_file(sandbox.join("c/g")).unwrap();
    let diff = rootfs(&sandbox, &["diff", "base", "./c"]).exits(1);
    assert!(diff.stdout.contains("A /new") && diff.stdout.contains("D /g"), "{}", diff.describe());
    rootfs(&sandbox, &["pack", "--base", "base", "--compress", "zstd", "c", "top"]).success();
    let shown: Value =
        serde_json::from_str(&rootfs(&sandbox, &["inspect", "--json", "top"]).success().stdout).unwrap();
    assert_eq!(shown["layers"].as_array().unwrap().len(), 2);
    rootfs(&sandbox, &["unpack", "top", "d"]).success();
    rootfs(&sandbox, &["diff", "./c", "./d"]).success();
    // Two exports are the same bytes, and come back as the same tree.
    for name in ["one.tar", "two.tar"] {
        rootfs(&sandbox, &["export", "d", name]).success();
    }
    assert_eq!(
        std::fs::read(sandbox.join("one.tar")).unwrap(),
        std::fs::read(sandbox.join("two.tar")).unwrap()
    );
    rootfs(&sandbox, &["import", "one.tar", "e"]).success();
    rootfs(&sandbox, &["diff", "./d", "./e"]).success();
    rootfs(&sandbox, &["import", "one.tar", "--image", "imported"]).success();
    rootfs(&sandbox, &["diff", "imported", "./d"]).success();
}

#[test]
fn the_store_keeps_what_is_named_and_shares_what_is_the_same() {
    let sandbox = Sandbox::new();
    let base = Tar::default().file("base", &"b".repeat(10_000)).end();
    for (name, top) in [("one", "1"), ("two", "2")] {
        let mut layout = Layout::new(&sandbox.join(name));
        layout.layer(&base);
        layout.layer(&Tar::default().file("top", top).end()).finish();
        rootfs(&sandbox, &["pull", &format!("oci:{name}"), name]).success();
        rootfs(&sandbox, &["diff", name, name]).success();
    }
    // The file of the layer that both have is one file.
    let trees = sandbox.data().join("images/trees");
    let inodes: std::collections::BTreeSet<u64> = std::fs::read_dir(&trees)
        .unwrap()
        .filter_map(|e| std::fs::metadata(e.unwrap().path().join("base")).ok())
        .map(|m| m.ino())
        .collect();
    assert_eq!(inodes.len(), 1);
    let blobs = || std::fs::read_dir(sandbox.data().join("images/blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 7, "two manifests, two configurations, three layers");
    rootfs(&sandbox, &["gc", "--check"]).success();
    rootfs(&sandbox, &["tag", "one", "again"]).success();
    rootfs(&sandbox, &["untag", "one"]).success();
    rootfs(&sandbox, &["gc"]).success();
    assert_eq!(blobs(), 7, "it has another name");
    rootfs(&sandbox, &["untag", "again"]).success();
    rootfs(&sandbox, &["gc", "--check"]).exits(1);
    rootfs(&sandbox, &["gc"]).success();
    assert_eq!((blobs(), std::fs::read_dir(&trees).unwrap().count()), (4, 2));
    rootfs(&sandbox, &["unpack", "two", "r"]).success();
    assert_eq!(std::fs::read_to_string(sandbox.join("r/top")).unwrap(), "2");
    rootfs(&sandbox, &["untag", "one"]).fails_with(2);
    // A tree that an earlier boot may have left half on the disk is made anew.
    for e in std::fs::read_dir(&trees).unwrap() {
        let tree = e.unwrap().path();
        std::fs::remove_file(tree.join("base")).unwrap();
        let name = tree.file_name().unwrap().to_string_lossy().into_owned();
        std::fs::write(trees.join(format!(".boot-{name}")), "another boot").unwrap();
    }
    rootfs(&sandbox, &["diff", "two", "./r"]).success();
    // Its configuration is edited into another image.
    rootfs(
        &sandbox,
        &[
            "config",
            "two",
            "--to",
            "three",
            "--cmd",
            "[\"a\",\"b\"]",
            "-e",
            "K=V",
            "-w",
            "/w",
            "--stop-signal",
            "INT",
        ],
    )
    .success();
    let shown: Value =
        serde_json::from_str(&rootfs(&sandbox, &["inspect", "--json", "three"]).success().stdout).unwrap();
    assert_eq!(
        (&shown["cmd"], &shown["env"], &shown["workdir"]),
        (&json!(["a", "b"]), &json!(["K=V"]), &json!("/w"))
    );
    for bad in
        [["--workdir", "rel"], ["--stop-signal", "NOPE"], ["--cmd", "[1"], ["--env", "=x"], ["--port", "0"]]
    {
        rootfs(&sandbox, &["config", "two", bad[0], bad[1]])
            .fails_with(2)
            .says(bad[0].trim_start_matches("--stop-"));
    }
}

#[test]
fn many_at_once_unpack_each_layer_once_and_a_kill_leaves_the_store_whole() {
    let sandbox = Sandbox::new();
    let mut tar = Tar::default();
    for n in 0..300 {
        tar.file(&format!("f{n}"), "x");
    }
    let mut layout = Layout::new(&sandbox.join("img"));
    layout.layer(&tar.end()).finish();
    for round in 0..12 {
        let mut child = command(&sandbox)
            .args(["pull", "oci:img", "x"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut child =
            command(&sandbox).args(["diff", "x", "x"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let children: Vec<_> = (0..6)
        .map(|_| {
            command(&sandbox)
                .args(["pull", "oci:img", "x"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    children.into_iter().for_each(|mut c| assert!(c.wait().unwrap().success()));
    let children: Vec<_> =
        (0..6).map(|_| command(&sandbox).args(["diff", "x", "x"]).spawn().unwrap()).collect();
    children.into_iter().for_each(|mut c| assert!(c.wait().unwrap().success()));
    rootfs(&sandbox, &["gc"]).success();
    let trees: Vec<_> =
        std::fs::read_dir(sandbox.data().join("images/trees")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(trees.len(), 1, "{trees:?}");
    assert_eq!(std::fs::read_dir(&trees[0]).unwrap().count(), 300);
    let hidden = |dir: &str| {
        std::fs::read_dir(sandbox.data().join(dir))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count()
    };
    assert_eq!(hidden("images") + hidden("images/blobs/sha256") + hidden("images/trees"), 0);
}

#[test]
fn names_in_a_layout_are_given_and_taken() {
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox.join("img"));
    layout.layer(&small()).finish();
    rootfs(&sandbox, &["tag", "oci:img", "v1"]).success();
    rootfs(&sandbox, &["tag", "oci:img:v1", "v2"]).success();
    rootfs(&sandbox, &["unpack", "oci:img:v2", "r"]).success();
    rootfs(&sandbox, &["untag", "oci:img:v1"]).success();
    rootfs(&sandbox, &["untag", "oci:img:v1"]).fails_with(2).says("is not in the layout");
    rootfs(&sandbox, &["inspect", "oci:img:v2"]).success();
    rootfs(&sandbox, &["untag", "oci:img"]).fails_with(2).says("oci:DIR:TAG");
    std::fs::write(sandbox.join("x.tar"), "").unwrap();
    rootfs(&sandbox, &["tag", "oci-archive:x.tar", "v3"]).fails_with(2).says("is in an archive");
    rootfs(&sandbox, &["tag", "oci:nowhere:v1", "v3"]).fails_with(2);
    assert!(!sandbox.join("nowhere").exists());
}
