//! Rules about each package's Cargo.toml.

use crate::strip::{has_word, without_comments};
use crate::workspace::{Dependency, Package, Workspace};

/// Every package takes version, edition, licence and lints from the workspace; core has its own lint table.
pub fn inherited(workspace: &Workspace) -> Vec<String> {
    let mut offences = Vec::new();
    for package in &workspace.packages {
        let manifest = workspace.text(&format!("{}/Cargo.toml", package.dir));
        for key in ["version", "edition", "license"] {
            if !manifest.lines().any(|line| line.replace(' ', "") == format!("{key}.workspace=true")) {
                offences.push(format!(
                    "{}: does not inherit `{key}` (write `{key}.workspace = true`)",
                    package.dir
                ));
            }
        }
        if let Some(problem) = lint_problem(package, manifest) {
            offences.push(format!("{}: {problem}", package.dir));
        }
    }
    offences
}

fn lint_problem(package: &Package, manifest: &str) -> Option<&'static str> {
    if package.dir == "crates/core" {
        // The one crate with unsafe code: denied in general, allowed module by module.
        let own =
            section(manifest, "[lints.rust]").any(|line| line.replace(' ', "") == "unsafe_code=\"deny\"");
        return (!own).then_some("core's own lint table does not deny unsafe_code");
    }
    let inherits = section(manifest, "[lints]").any(|line| line.replace(' ', "") == "workspace=true");
    (!inherits).then_some("does not inherit the workspace's lints (write `[lints]` and `workspace = true`)")
}

fn section<'a>(manifest: &'a str, header: &'a str) -> impl Iterator<Item = &'a str> {
    let body = manifest.lines().map(str::trim).skip_while(move |line| *line != header).skip(1);
    body.take_while(|line| !line.starts_with('['))
}

/// Each dependency's name occurs in the sources: in src (or build.rs) for a normal one, anywhere for a dev-dependency.
pub fn unused_dependencies(workspace: &Workspace) -> Vec<String> {
    let mut offences = Vec::new();
    for package in &workspace.packages {
        for dependency in &package.dependencies {
            let mut files = workspace.rust_files(&package.dir).filter(|file| {
                let place = file.path.strip_prefix(&package.dir).unwrap_or(&file.path);
                // tests/ is a package whose sources are its tests.
                dependency.dev || package.dir == "tests" || place.starts_with("/src/") || place == "/build.rs"
            });
            if !files.any(|file| uses(&without_comments(&file.text), dependency)) {
                let table = if dependency.dev { "dev-dependency" } else { "dependency" };
                offences.push(format!("{}: {table} {} is not used", package.dir, dependency.name));
            }
        }
    }
    offences
}

fn uses(code: &str, dependency: &Dependency) -> bool {
    let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
    has_word(code, &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::samples::{package, workspace};

    const HEAD: &str = "version.workspace = true\nedition.workspace = true\nlicense.workspace = true\n";

    #[test]
    fn lints_and_keys_are_inherited() {
        let lints = format!("{HEAD}[lints]\nworkspace = true\n[dependencies]\n");
        let own = format!("{HEAD}[lints.rust]\nunsafe_code = \"deny\"\n");
        let files = [
            ("crates/good/Cargo.toml", lints.as_str()),
            ("crates/core/Cargo.toml", own.as_str()),
            ("crates/bad/Cargo.toml", "edition = \"2021\"\n[lints]\n[dependencies]\nworkspace = true\n"),
        ];
        let packages = ["good", "core", "bad"].map(|n| package(n, &format!("crates/{n}"), &[]));
        let found = inherited(&workspace(packages.to_vec(), &files));
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|f| f.starts_with("crates/bad: ")));
    }

    #[test]
    fn unused_ones_are_named() {
        let packages =
            vec![package("a", "crates/a", &["serde", "serde_json", "sys-mount", "dev:tempfile", "libc"])];
        let files = [
            ("crates/a/src/lib.rs", "use serde_json::Value;\nuse sys_mount::Mount; // libc\n"),
            ("crates/a/tests/x.rs", "use tempfile as t; use libc::c_int;"),
            ("crates/ab/src/lib.rs", "use serde::Serialize;"),
        ];
        let found = unused_dependencies(&workspace(packages, &files));
        assert_eq!(
            found,
            ["crates/a: dependency serde is not used", "crates/a: dependency libc is not used"]
        );
    }
}
