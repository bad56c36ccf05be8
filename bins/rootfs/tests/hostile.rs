//! Damaged and hostile ELF files: a clear answer in bounded time and memory.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::command;
use drydock_testkit::Sandbox;
use std::time::{Duration, Instant};

/// A small deterministic generator: failures can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// Runs `closure` on the file under an address space limit; it must end by itself with 0, 1 or 2 and at most a sentence.
fn must_cope(sandbox: &Sandbox, bytes: &[u8], what: &str) {
    let file = sandbox.join("victim");
    std::fs::write(&file, bytes).unwrap();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 400000; exec \"$0\" closure ./victim", env!("CARGO_BIN_EXE_rootfs")]);
    limited.current_dir(sandbox.path());
    let output = drydock_testkit::run(&mut limited);
    assert!(matches!(output.code, Some(0..=2)), "{what}: {}", output.describe());
    assert!(!output.stderr.contains("panicked"), "{what}: {}", output.describe());
    assert!(output.took < Duration::from_secs(20), "{what}: took {:?}", output.took);
}

fn headers() -> Vec<u8> {
    let mut bytes = std::fs::read("/bin/true").unwrap();
    bytes.truncate(200_000);
    bytes
}

#[test]
fn truncated_anywhere() {
    let sandbox = Sandbox::new();
    let good = headers();
    let mut ends: Vec<usize> = (0..80).step_by(3).collect();
    ends.extend((80..1200).step_by(61));
    ends.extend((1200..good.len()).step_by(good.len() / 20));
    for end in ends {
        must_cope(&sandbox, &good[..end.min(good.len())], &format!("cut at {end}"));
    }
}

#[test]
fn flipped_bytes() {
    let sandbox = Sandbox::new();
    let good = headers();
    let mut random = Random(42);
    for round in 0..120 {
        let mut bad = good.clone();
        let flips = 1 + random.next(4);
        for _ in 0..flips {
            // Mostly in the headers, where it hurts.
            let range = if random.next(4) > 0 { 900.min(bad.len()) } else { bad.len() };
            let at = 4 + random.next(range - 4);
            bad[at] = u8::try_from(random.next(256)).unwrap();
        }
        must_cope(&sandbox, &bad, &format!("round {round}"));
    }
}

#[test]
fn huge_counts_and_offsets() {
    let sandbox = Sandbox::new();
    let good = headers();
    for (at, value) in [
        (32, u64::MAX.to_le_bytes().to_vec()), // e_phoff
        (32, (1u64 << 62).to_le_bytes().to_vec()),
        (56, u16::MAX.to_le_bytes().to_vec()), // e_phnum
        (54, 1u16.to_le_bytes().to_vec()),     // e_phentsize
        (4, vec![3]),                          // EI_CLASS
        (4, vec![1]),                          // 32-bit headers of a 64-bit file
        (5, vec![2]),                          // big endian
        (5, vec![9]),
        (16, 1u16.to_le_bytes().to_vec()), // ET_REL
    ] {
        let mut bad = good.clone();
        bad[at..at + value.len()].copy_from_slice(&value);
        must_cope(&sandbox, &bad, &format!("{value:?} at {at}"));
    }
    // Every size and offset of every program header, one after the other.
    let phoff = usize::try_from(u64::from_le_bytes(good[32..40].try_into().unwrap())).unwrap();
    let count = usize::from(u16::from_le_bytes([good[56], good[57]]));
    for header in 0..count.min(14) {
        for field in [8, 16, 32] {
            let mut bad = good.clone();
            let at = phoff + header * 56 + field;
            bad[at..at + 8].copy_from_slice(&(u64::MAX >> 1).to_le_bytes());
            must_cope(&sandbox, &bad, &format!("header {header}, field {field}"));
        }
    }
}

#[test]
fn a_root_full_of_traps_is_checked_in_bounded_time() {
    let sandbox = Sandbox::new();
    let root = sandbox.join("r");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("etc/ld.so.conf.d")).unwrap();
    std::os::unix::fs::symlink("loop-b", root.join("loop-a")).unwrap();
    std::os::unix::fs::symlink("loop-a", root.join("loop-b")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.join("etc/ld.so.cache")).unwrap();
    std::fs::write(root.join("etc/ld.so.conf"), "include /etc/ld.so.conf\n".repeat(50)).unwrap();
    std::fs::write(root.join("bin/self"), "#!/bin/self\n").unwrap();
    std::fs::set_permissions(root.join("bin/self"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    nix::unistd::mkfifo(&root.join("bin/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // A sparse file of a terabyte that says that it is ELF.
    let sparse = std::fs::File::create(root.join("bin/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"\x7fELF\x02\x01\x01", 0).unwrap();
    sparse.set_len(1 << 40).unwrap();
    std::fs::copy("/bin/true", root.join("bin/true")).unwrap();
    let started = Instant::now();
    let output = drydock_testkit::run(command(&sandbox).args(["check", "r"])).exits(1);
    assert!(output.stdout.contains("/bin/true: unresolved: interpreter"), "{}", output.describe());
    assert!(started.elapsed() < Duration::from_secs(20));
}
