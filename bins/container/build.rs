//! Has the linker put side by side what a container's start runs: see hot.ld.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=hot.ld");
    // What --version says, for those who package it; a build by hand need not be of a commit.
    println!("cargo:rerun-if-env-changed=DRYDOCK_COMMIT");
    let commit = std::env::var("DRYDOCK_COMMIT").unwrap_or_default();
    let plain = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_graphic());
    println!("cargo:rustc-env=DRYDOCK_COMMIT={}", if plain { &commit } else { "unknown" });
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let (true, Ok(dir)) = (release, std::env::var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-link-arg-bin=container=-Wl,-T,{dir}/hot.ld");
    }
}
