//! Cache and memory bandwidth: OCI's `linux.intelRdt`. Source: the kernel's Documentation/filesystems/resctrl.rst.
//!
//! The group is made and the process put into it by the parent: the file system is the host's.

use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};

/// `linux.intelRdt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// The group: `/` is the root's; absent, one of the container's own is made.
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    /// `L3:0=7f0;1=1f`.
    pub l3_cache_schema: Option<String>,
    /// `MB:0=20;1=70`.
    pub mem_bw_schema: Option<String>,
    /// Lines of the group's `schemata` file.
    pub schemata: Option<Vec<String>>,
    /// Make a monitoring group of the container's name.
    pub enable_monitoring: bool,
}

impl Request {
    /// Checks the values, without touching anything.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field.
    pub fn check(&self) -> Result<()> {
        if let Some(id) = &self.clos_id {
            let part = !id.is_empty() && !id.contains('/') && !id.starts_with('.') && id.len() < 256;
            let reserved = ["info", "mon_groups", "mon_data"].contains(&id.as_str());
            if id != "/" && (!part || reserved || id.chars().any(char::is_control)) {
                return refuse("closID", id, "/ or the name of one directory");
            }
        }
        let lines = |field: &str, text: &str, prefix: &str, allowed: &str| {
            let fits = text.starts_with(prefix) && !text.contains(['\n', '\0']) && !text.is_empty();
            if fits { Ok(()) } else { refuse(field, text, allowed) }
        };
        if let Some(schema) = &self.l3_cache_schema {
            lines("l3CacheSchema", schema, "", "one line such as L3:0=7f0;1=1f")?;
        }
        if let Some(schema) = &self.mem_bw_schema {
            lines("memBwSchema", schema, "MB:", "one line such as MB:0=20;1=70")?;
        }
        for schema in self.schemata.iter().flatten() {
            lines("schemata", schema, "", "lines of a resctrl schemata file, one each")?;
        }
        Ok(())
    }
}

fn refuse(field: &str, value: &str, allowed: &str) -> Result<()> {
    let shown = text::shorten(&text::escape(value), 60);
    Err(Error::bad_input(format!("intelRdt.{field}"), format!("'{shown}' does not fit (allowed: {allowed})")))
}
