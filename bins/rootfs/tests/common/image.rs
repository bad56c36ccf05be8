//! Image layouts made by hand.
#![allow(dead_code)] // each test file uses its part

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A layout with one image, whose parts can be changed before it is written.
pub struct Layout {
    pub dir: PathBuf,
    pub manifest: Value,
    pub config: Value,
}

impl Layout {
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            dir: dir.to_path_buf(),
            manifest: json!({ "schemaVersion": 2, "layers": [] }),
            config: json!({
                "architecture": "amd64", "os": "linux", "config": {},
                "rootfs": { "type": "layers", "diff_ids": [] },
            }),
        }
    }

    pub fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let name = hex(bytes);
        std::fs::write(self.dir.join("blobs/sha256").join(&name), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{name}"), "size": bytes.len() })
    }

    /// A layer as it is, not compressed.
    pub fn layer(&mut self, tar: &[u8]) -> &mut Self {
        self.packed(tar, tar, "application/vnd.oci.image.layer.v1.tar")
    }

    pub fn packed(&mut self, tar: &[u8], packed: &[u8], media_type: &str) -> &mut Self {
        let descriptor = self.blob(packed, media_type);
        self.manifest["layers"].as_array_mut().unwrap().push(descriptor);
        let id = format!("sha256:{}", hex(tar));
        self.config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(id.into());
        self
    }

    /// Configuration, manifest; the manifest's descriptor.
    pub fn write(&mut self) -> Value {
        if self.manifest.get("config").is_none() {
            let config = serde_json::to_vec(&self.config).unwrap();
            self.manifest["config"] = self.blob(&config, "application/vnd.oci.image.config.v1+json");
        }
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        self.blob(&manifest, "application/vnd.oci.image.manifest.v1+json")
    }

    pub fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        std::fs::write(self.dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }

    /// All of it.
    pub fn finish(&mut self) {
        let manifest = self.write();
        self.index(&[manifest]);
    }
}
