//! What people call images: `oci:DIR:TAG`, `oci-archive:FILE`, `docker-archive:FILE`, `docker://HOST/NAME:TAG`, or the name
//! of one in the store. As skopeo(1) and podman(1) have it.

use drydock_core::{Error, Result};
use std::path::{Path, PathBuf};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A directory that is an image layout.
    Oci(PathBuf),
    /// A tar archive of one.
    OciArchive(PathBuf),
    /// What `docker save` writes.
    DockerArchive(PathBuf),
    /// A registry.
    Registry,
    /// The store.
    Store,
}

/// One image somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where.
    pub transport: Transport,
    /// Which one there: a tag, a name, `@sha256:…`; `None` if there should be only one.
    pub name: Option<String>,
}

/// What stands before the colon of a reference.
pub const PREFIXES: [&str; 5] = ["oci:", "oci-archive:", "docker-archive:", "docker://", "store:"];

fn bad(text: &str, why: &str) -> Error {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 200);
    Error::bad_input(format!("image '{shown}'"), why)
}

impl Reference {
    /// Whether a word can only be meant as an image.
    pub fn is_explicit(text: &str) -> bool {
        PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    }

    /// Reads one. A path that exists (with a slash in it) is what it is: a layout, or an archive.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text.contains('\0') || text.len() > 4096 {
            return Err(bad(
                text,
                "is no name (allowed: oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker://NAME, or a name in the store)",
            ));
        }
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self { transport: Transport::Registry, name: Some(Name::parse(rest)?.to_string()) });
        }
        if let Some(rest) = text.strip_prefix("store:") {
            check_name(rest)?;
            return Ok(Self { transport: Transport::Store, name: Some(rest.into()) });
        }
        for (prefix, make) in [
            ("oci-archive:", Transport::OciArchive as fn(PathBuf) -> Transport),
            ("docker-archive:", Transport::DockerArchive),
            ("oci:", Transport::Oci),
        ] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (path, name) = split_path(rest);
                if path.is_empty() {
                    return Err(bad(text, "has no path"));
                }
                return Ok(Self { transport: make(path.into()), name: name.map(Into::into) });
            }
        }
        if text.contains('/') || text.starts_with('.') || is_archive(text) {
            let (path, name) = split_path(text);
            if let Some(transport) = of_path(Path::new(path)) {
                return Ok(Self { transport, name: name.map(Into::into) });
            }
            if text.starts_with(['/', '.']) {
                return Err(bad(
                    text,
                    "does not exist (allowed: an image layout or archive, or a name in the store)",
                ));
            }
        }
        check_name(text)?;
        Ok(Self { transport: Transport::Store, name: Some(text.into()) })
    }
}

/// `PATH[:TAG]`: the last colon with no slash behind it, unless a file of the whole name is there.
fn split_path(text: &str) -> (&str, Option<&str>) {
    if Path::new(text).exists() {
        return (text, None);
    }
    // `docker-archive:FILE:HOST/NAME:TAG`: the first colon behind which no path can begin.
    let colons = text.match_indices(':').map(|(at, _)| at);
    for at in colons {
        let (path, rest) = text.split_at(at);
        if Path::new(path).exists() {
            return (path, rest.get(1..).filter(|r| !r.is_empty()));
        }
    }
    match text.split_once(':') {
        Some((path, name)) => (path, Some(name).filter(|n| !n.is_empty())),
        None => (text, None),
    }
}

/// A word that is a file's name rather than an image's.
fn is_archive(text: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz"].iter().any(|end| text.ends_with(end))
}

fn of_path(path: &Path) -> Option<Transport> {
    let meta = std::fs::metadata(path).ok()?;
    if meta.is_dir() {
        return path.join("oci-layout").is_file().then(|| Transport::Oci(path.into()));
    }
    // Which of the two an archive is, its entries tell.
    meta.is_file().then(|| Transport::OciArchive(path.into()))
}

/// A name for an image in an index: what registries and tools take.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts
        && name.len() <= 512
        && name.chars().all(good)
        && !name.split('/').any(|p| p.is_empty() || p == "..")
    {
        return Ok(());
    }
    Err(bad(name, "is no name (allowed: letters, digits and . _ - / : @, at most 512)"))
}

/// A name in a registry, complete: `docker.io/library/debian:bookworm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Host, with its port.
    pub host: String,
    /// Repository.
    pub repository: String,
    /// `latest` unless given; may be missing beside a digest.
    pub tag: Option<String>,
    /// What its manifest must be.
    pub digest: Option<super::Digest>,
}

impl Name {
    /// Reads `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`, with Docker's defaults. Source: distribution's reference grammar.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: upper case in a repository, and all else that the grammar has not.
    pub fn parse(text: &str) -> Result<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(super::Digest::parse(digest)?)),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (host, path.to_string())
            }
            _ => ("docker.io", rest.to_string()),
        };
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository.to_string(), Some(tag.to_string())),
            _ => (path, None),
        };
        let repository = if host == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let word = |w: &str| {
            !w.is_empty()
                && w.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && w.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        if !repository.split('/').all(word) || repository.len() > 255 {
            return Err(bad(
                text,
                "is no name in a registry (allowed: [HOST/]NAME[:TAG][@sha256:…], in lower case)",
            ));
        }
        let tag_good = |t: &String| {
            let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !t.is_empty() && t.len() <= 128 && t.chars().all(good) && !t.starts_with(['.', '-'])
        };
        if let Some(tag) = tag.as_ref().filter(|t| !tag_good(t)) {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(tag), 60);
            return Err(bad(text, &format!("has the tag '{shown}' (allowed: letters, digits and . _ -)")));
        }
        let host_good = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let starts = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
        if !starts || !host.chars().all(host_good) {
            return Err(bad(text, "has a host that is no name"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_string()));
        Ok(Self { host: host.into(), repository, tag, digest })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let full = |t: &str| Name::parse(t).unwrap().to_string();
        assert_eq!(full("debian"), "docker.io/library/debian:latest");
        assert_eq!(full("a/b:1"), "docker.io/a/b:1");
        assert_eq!(full("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(full("quay.io/a/b"), "quay.io/a/b:latest");
        for bad in ["", "Debian", "x@sha256:short", "x:", "x:-", "a//b", "../x", "x y"] {
            assert_eq!(Name::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn references() {
        let oci = Reference::parse("oci:/nowhere/dir:v1").unwrap();
        assert_eq!(
            oci,
            Reference { transport: Transport::Oci("/nowhere/dir".into()), name: Some("v1".into()) }
        );
        assert_eq!(Reference::parse("debian:12").unwrap().transport, Transport::Store);
        for bad in ["", "oci:", "/nowhere/at/all", "a b", "../x", "store:", "\x1b"] {
            assert_eq!(Reference::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
