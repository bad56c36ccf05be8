//! Who may import whom: core ← siblings ← bins.

use crate::workspace::{Package, Workspace};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Core,
    /// A crate of one kernel concept.
    Sibling,
    /// What the tools' mains share.
    Cli,
    /// A stage tool.
    Tool,
    /// The orchestrator, which composes the tools' libraries.
    Container,
    /// Development only.
    Testkit,
    /// tests/ and scripts/: not part of the product.
    Outside,
}

fn layer(dir: &str) -> Layer {
    match dir {
        "crates/core" => Layer::Core,
        "crates/cli" => Layer::Cli,
        "crates/testkit" => Layer::Testkit,
        "bins/container" => Layer::Container,
        dir if dir.starts_with("crates/") => Layer::Sibling,
        dir if dir.starts_with("bins/") => Layer::Tool,
        _ => Layer::Outside,
    }
}

fn may_import(from: Layer, to: Layer, dev: bool) -> bool {
    match (from, to) {
        (Layer::Outside, _) => true,
        (_, Layer::Testkit) => dev,
        (Layer::Sibling | Layer::Cli | Layer::Testkit, Layer::Core) => true,
        (Layer::Tool | Layer::Container, Layer::Core | Layer::Sibling | Layer::Cli) => true,
        (Layer::Container, Layer::Tool) => true,
        _ => false,
    }
}

/// core ← siblings ← bins; siblings never import each other; cli is for bins; testkit is for tests.
pub fn layers(workspace: &Workspace) -> Vec<String> {
    let find = |name: &str| workspace.packages.iter().find(|p| p.name == name);
    let mut offences = Vec::new();
    for package in &workspace.packages {
        for dependency in &package.dependencies {
            let Some(target) = find(&dependency.name) else { continue };
            if !may_import(layer(&package.dir), layer(&target.dir), dependency.dev) {
                offences.push(offence(package, target));
            }
        }
    }
    offences
}

fn offence(package: &Package, target: &Package) -> String {
    let why = match (layer(&package.dir), layer(&target.dir)) {
        (_, Layer::Testkit) => "the testkit is for [dev-dependencies] and tests/ only",
        (Layer::Core, _) => "core imports nothing of ours",
        (Layer::Sibling, Layer::Sibling) => "siblings never import each other: move what both need to core",
        (Layer::Sibling | Layer::Testkit, Layer::Cli) => {
            "cli is for the tools only: a library does not print or exit"
        }
        (Layer::Tool, Layer::Tool) => "a stage tool does not import another: only container composes them",
        _ => "the layers are core, then its siblings, then the tools, then container",
    };
    format!("{}: imports {}, but {why}", package.dir, target.name)
}

/// Only the bundle crate and the orchestrator know OCI types.
pub fn oci_types(workspace: &Workspace) -> Vec<String> {
    let allowed = ["crates/bundle", "bins/container"];
    let others = workspace.packages.iter().filter(|p| !allowed.contains(&p.dir.as_str()));
    others
        .filter(|p| p.dependencies.iter().any(|d| d.name == "oci-spec"))
        .map(|p| format!("{}: imports oci-spec, but only bundle and container know OCI types", p.dir))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::samples::{package, workspace};

    fn sample(extra: Package) -> Vec<String> {
        let packages = vec![
            package("drydock-core", "crates/core", &["libc"]),
            package("drydock-cli", "crates/cli", &["drydock-core"]),
            package("drydock-mounts", "crates/mounts", &["drydock-core", "dev:drydock-testkit"]),
            package("drydock-testkit", "crates/testkit", &[]),
            package("drydock-init", "bins/init", &["drydock-core", "drydock-cli", "drydock-mounts"]),
            package("drydock-tests", "tests", &["drydock-testkit"]),
            extra,
        ];
        layers(&workspace(packages, &[]))
    }

    #[test]
    fn allows_the_design() {
        let container = package("drydock-container", "bins/container", &["drydock-init", "drydock-mounts"]);
        assert_eq!(sample(container), [""; 0]);
    }

    #[test]
    fn finds_each_offence() {
        let cases = [
            (package("a", "crates/a", &["drydock-mounts"]), "siblings never"),
            (package("a", "crates/a", &["dev:drydock-mounts"]), "siblings never"),
            (package("a", "crates/a", &["drydock-cli"]), "does not print"),
            (package("a", "crates/a", &["drydock-init"]), "the layers are"),
            (package("a", "crates/a", &["drydock-testkit"]), "[dev-dependencies]"),
            (package("a", "bins/a", &["drydock-init"]), "only container"),
            (package("drydock-core2", "crates/core", &["drydock-mounts"]), "core imports nothing"),
        ];
        for (bad, expected) in cases {
            let found = sample(bad.clone());
            assert!(found.len() == 1 && found.iter().all(|f| f.contains(expected)), "{bad:?}: {found:?}");
        }
    }

    #[test]
    fn oci_only_in_bundle_and_container() {
        let good = package("b", "crates/bundle", &["oci-spec"]);
        let bad = package("m", "crates/mounts", &["oci-spec"]);
        let found = oci_types(&workspace(vec![good, bad], &[]));
        assert!(found.len() == 1 && found.iter().all(|f| f.starts_with("crates/mounts: ")), "{found:?}");
    }
}
