//! Indexes, manifests and configurations of images, as far as we use them, read strictly: what could be taken for two
//! things (CVE-2021-41190) is refused. Sources: image-spec 1.1; Docker's image manifest v2, schema 2.

use super::digest::Digest;
use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Manifests, indexes and configurations, each at most this long: what registries take.
pub const MAX_JSON: u64 = 4 << 20;
/// Layers of one image, at most.
pub const MAX_LAYERS: usize = 500;

/// Media types, as the specification names them and as Docker does.
pub const INDEX: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// See [`INDEX`].
pub const MANIFEST: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// See [`INDEX`].
pub const CONFIG: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// A layer's media type, without its compression.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The annotation that names an image in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd and docker write it beside a short one.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// Points to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// For which machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Further words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

/// For which machines an image is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: None }
    }

    /// `linux/amd64`, `arm64`, `linux/arm/v7`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let new = |os: &str, architecture: &str, variant: Option<&str>| Self {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.map(Into::into),
        };
        match parts.as_slice() {
            [a] if word(a) => Ok(new("linux", a, None)),
            [os, a] if word(os) && word(a) => Ok(new(os, a, None)),
            [os, a, v] if word(os) && word(a) && word(v) => Ok(new(os, a, Some(v))),
            _ => {
                let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 60);
                Err(Error::bad_input(
                    "--platform",
                    format!("'{shown}' (allowed: OS/ARCHITECTURE, such as linux/arm64)"),
                ))
            }
        }
    }

    fn fits(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || wanted.variant == self.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}/{}", self.os, self.architecture);
        f.write_str(&drydock_core::text::shorten(&drydock_core::text::escape(&text), 60))?;
        self.variant.as_ref().map_or(Ok(()), |v| write!(f, "/{}", drydock_core::text::escape(v)))
    }
}

/// A list of images: of a layout, or of one image for several machines.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// What it is; may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// Further words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

/// One image: its configuration and layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// What it is; may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the layers do not say.
    pub config: Descriptor,
    /// From the lowest up.
    pub layers: Vec<Descriptor>,
    /// Further words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image says about itself. Unknown fields are kept, so that an edit loses nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`
    #[serde(default)]
    pub os: String,
    /// How its command runs.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Process,
    /// Its layers.
    pub rootfs: RootFs,
    /// How its layers were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub history: Vec<History>,
    /// What else there is.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// How an image's command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Process {
    /// `UID[:GID]` or names.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub user: String,
    /// `80/tcp`: documentation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `KEY=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The command's first words.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// The rest of it, which words of the command line replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Directories whose content is not the image's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, Value>,
    /// Where the command starts.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub working_dir: String,
    /// Words about it; never directives for us.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub stop_signal: String,
    /// What else there is.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The layers, by the digest of each one's tar archive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`
    #[serde(rename = "type", default)]
    pub kind: String,
    /// From the lowest up.
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// It made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// What else there is.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// `null` is as good as missing: Go writes it for empty lists.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let why = drydock_core::text::shorten(&drydock_core::text::escape(&e.to_string()), 300);
        Error::bad_input(what, why)
    })
}

/// The fields that tell an index from a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// What a descriptor that may be either leads to.
#[derive(Clone, Debug)]
pub enum Document {
    /// Several images.
    Index(Index),
    /// One.
    Manifest(Manifest),
}

impl Document {
    /// Reads an index or a manifest. `announced`: the media type of the descriptor or answer that led to it; empty if
    /// there was none.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: neither, both, or not what was announced.
    pub fn parse(what: &str, bytes: &[u8], announced: &str) -> Result<Self> {
        let shape: Shape = parse(what, bytes)?;
        let bad = |why: &str| Err(Error::bad_input(what, why));
        let is_index = shape.manifests.is_some();
        if is_index && (shape.layers.is_some() || shape.config.is_some()) {
            return bad("has both manifests and layers (allowed: an index or a manifest)");
        }
        if shape.fs_layers.is_some() || shape.schema_version == Some(1) {
            return bad("is of Docker's schema 1 (allowed: schema version 2)");
        }
        if shape.schema_version != Some(2) {
            return bad("/schemaVersion: is not 2");
        }
        let kinds = if is_index { &INDEX } else { &MANIFEST };
        for kind in shape.media_type.iter().map(String::as_str).chain([announced]).filter(|k| !k.is_empty()) {
            if !kinds.contains(&kind) {
                let kind = drydock_core::text::shorten(&drydock_core::text::escape(kind), 100);
                let is = if is_index { "an index" } else { "a manifest" };
                return Err(Error::bad_input(what, format!("is {is}, but called '{kind}'")));
            }
        }
        if is_index {
            return parse(what, bytes).map(Document::Index);
        }
        if shape.layers.is_none() {
            return bad("/layers: required, an array");
        }
        let manifest: Manifest = parse(what, bytes)?;
        if manifest.layers.len() > MAX_LAYERS {
            return bad(&format!("has {} layers (allowed: {MAX_LAYERS})", manifest.layers.len()));
        }
        Ok(Document::Manifest(manifest))
    }
}

impl Index {
    /// An index of nothing.
    pub fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(INDEX[0].into()),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// The entry for a platform; the first one if none says for which it is.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming those that there are.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor> {
        let images =
            || self.manifests.iter().filter(|d| !d.annotations.contains_key("vnd.docker.reference.type"));
        if let Some(found) = images().find(|d| d.platform.as_ref().is_some_and(|p| p.fits(wanted))) {
            return Ok(found);
        }
        if let Some(first) = images().next().filter(|_| images().all(|d| d.platform.is_none())) {
            return Ok(first);
        }
        let mut has: Vec<String> =
            images().filter_map(|d| d.platform.as_ref()).take(50).map(ToString::to_string).collect();
        has.dedup();
        let has = if has.is_empty() { "nothing".to_string() } else { has.join(", ") };
        Err(Error::bad_input(format!("platform {wanted}"), format!("not found: the image has {has}"))
            .hint("choose one: --platform OS/ARCHITECTURE"))
    }
}

impl Config {
    /// Reads a configuration for an image with so many layers.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: another number of layers, words that no command line can have.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let what = "image configuration";
        let config: Config = parse(what, bytes)?;
        let ids = config.rootfs.diff_ids.len();
        if ids != layers {
            return Err(Error::bad_input(
                what,
                format!("/rootfs/diff_ids: {ids} for {layers} layers (allowed: one each)"),
            ));
        }
        config.config.check().map_err(|why| Error::bad_input(what, why))?;
        Ok(config)
    }
}

impl Process {
    fn check(&self) -> Result<(), String> {
        let lists = [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd), ("Env", &self.env)];
        for (name, words) in lists {
            if words.iter().any(|w| w.contains('\0')) {
                return Err(format!("/config/{name}: NUL byte"));
            }
        }
        if let Some(bad) = self.env.iter().find(|e| !e.contains('=') || e.starts_with('=')) {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(bad), 60);
            return Err(format!("/config/Env: '{shown}' (allowed: KEY=VALUE)"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn refused(text: &str, announced: &str) -> String {
        Document::parse("x", text.as_bytes(), announced).unwrap_err().to_string()
    }

    #[test]
    fn two_things_at_once_are_refused() {
        let config = format!(r#""config":{{"digest":"{D}","size":0}}"#);
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],{config}}}"#);
        assert!(refused(&both, "").contains("both manifests and layers"));
        let manifest = format!(r#"{{"schemaVersion":2,"layers":[],{config}}}"#);
        assert!(Document::parse("x", manifest.as_bytes(), MANIFEST[0]).is_ok());
        assert!(refused(&manifest, INDEX[0]).contains("is a manifest, but called"));
        let typed = manifest
            .replace("\"schemaVersion\":2", &format!("\"schemaVersion\":2,\"mediaType\":\"{}\"", INDEX[0]));
        assert!(refused(&typed, "").contains("is a manifest, but called"));
        assert!(refused(r#"{"schemaVersion":2,"config":{}}"#, "").contains("/layers: required"));
        assert!(refused(r#"{"schemaVersion":1,"fsLayers":[]}"#, "").contains("schema 1"));
        let twice = manifest.replace("\"layers\":[]", "\"layers\":[],\"layers\":[]");
        assert!(refused(&twice, "").contains("duplicate field"));
        for bad in ["", "[]", "null", "{", "{}", "\u{feff}{}"] {
            refused(bad, "");
        }
    }

    #[test]
    fn a_platform_is_chosen_or_the_others_are_named() {
        let entry = |a: &str| {
            format!(r#"{{"digest":"{D}","size":0,"platform":{{"os":"linux","architecture":"{a}"}}}}"#)
        };
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, entry("amd64"), entry("arm64"));
        let Document::Index(index) = Document::parse("x", text.as_bytes(), "").unwrap() else { panic!() };
        assert!(index.choose(&Platform::parse("arm64").unwrap()).is_ok());
        let error = index.choose(&Platform::parse("linux/s390x").unwrap()).unwrap_err().to_string();
        assert!(error.contains("linux/amd64, linux/arm64"), "{error}");
        for bad in ["", "/", "a/b/c/d", "linux/", "a b"] {
            assert!(Platform::parse(bad).is_err());
        }
    }

    #[test]
    fn unknown_fields_survive_an_edit() {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","x":1,"config":{{"Cmd":["sh"],"Y":2,"Env":null}},"rootfs":{{"type":"layers","diff_ids":["{D}"]}}}}"#
        );
        let config = Config::parse(text.as_bytes(), 1).unwrap();
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!((&again["x"], &again["config"]["Y"]), (&1.into(), &2.into()));
        assert!(Config::parse(text.as_bytes(), 2).is_err());
        let bad = text.replace("null", r#"["A"]"#);
        assert!(Config::parse(bad.as_bytes(), 1).unwrap_err().to_string().contains("/config/Env"));
    }
}
