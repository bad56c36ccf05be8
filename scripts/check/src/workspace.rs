//! What the rules look at: the packages as cargo sees them, the files as git sees them.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages and files of the repository; all paths are relative to its root.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// The members.
    pub packages: Vec<Package>,
    /// Text files that git tracks or would track.
    pub files: Vec<File>,
}

/// A member of the workspace.
#[derive(Debug, Default, Clone)]
pub struct Package {
    /// `drydock-core`
    pub name: String,
    /// `crates/core`
    pub dir: String,
    /// What its manifest asks for.
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// Whether it stands in `[dev-dependencies]`.
    pub dev: bool,
    /// The name that the sources use, if renamed.
    pub rename: Option<String>,
}

/// A text file.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative path.
    pub path: String,
    /// Content.
    pub text: String,
}

impl Workspace {
    /// Reads `cargo metadata` and the files that git lists.
    pub fn load() -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let json = output(Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: Value = serde_json::from_slice(&json).map_err(|e| format!("cargo metadata: {e}"))?;
        let root = PathBuf::from(text(&metadata, "workspace_root"));
        let packages = array(&metadata, "packages").iter().map(|p| Package::from_json(p, &root)).collect();
        // Tracked files, and new ones that are not ignored.
        let listed = output(
            Command::new("git")
                .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
                .current_dir(&root),
        )?;
        let names = listed.split(|b| *b == 0).filter_map(|name| std::str::from_utf8(name).ok());
        let files = names.filter(|name| !name.is_empty()).filter_map(|name| {
            // Deleted or binary files have no text to look at.
            let text = std::fs::read_to_string(root.join(name)).ok()?;
            Some(File { path: name.to_string(), text })
        });
        Ok(Self { files: files.collect(), packages, root })
    }

    /// The text of a file, or nothing.
    pub fn text(&self, path: &str) -> &str {
        self.files.iter().find(|f| f.path == path).map_or("", |f| f.text.as_str())
    }

    /// The Rust files under a directory.
    pub fn rust_files<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |f| Path::new(&f.path).starts_with(dir) && f.path.ends_with(".rs"))
    }
}

impl Package {
    fn from_json(json: &Value, root: &Path) -> Self {
        let manifest = PathBuf::from(text(json, "manifest_path"));
        let dir = manifest.parent().and_then(|p| p.strip_prefix(root).ok()).unwrap_or(Path::new(""));
        let dependency = |json: &Value| Dependency {
            name: text(json, "name"),
            dev: json.get("kind").and_then(Value::as_str) == Some("dev"),
            rename: json.get("rename").and_then(Value::as_str).map(str::to_string),
        };
        Self {
            name: text(json, "name"),
            dir: dir.display().to_string(),
            dependencies: array(json, "dependencies").iter().map(dependency).collect(),
        }
    }
}

fn text(json: &Value, key: &str) -> String {
    json.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn array<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
pub mod samples {
    //! Small workspaces for the rules' own tests.
    use super::*;

    /// A package with dependencies; `dev:NAME` is a dev-dependency.
    pub fn package(name: &str, dir: &str, dependencies: &[&str]) -> Package {
        let dependency = |text: &&str| {
            let dev = text.strip_prefix("dev:");
            Dependency { name: dev.unwrap_or(text).to_string(), dev: dev.is_some(), rename: None }
        };
        Package {
            name: name.into(),
            dir: dir.into(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    /// A workspace of these.
    pub fn workspace(packages: Vec<Package>, files: &[(&str, &str)]) -> Workspace {
        let file = |(path, text): &(&str, &str)| File { path: path.to_string(), text: text.to_string() };
        Workspace { root: "/src/checkout".into(), packages, files: files.iter().map(file).collect() }
    }
}
