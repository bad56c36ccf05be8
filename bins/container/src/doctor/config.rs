//! The kernel's build configuration: extra evidence for what a probe has found missing, never a verdict by itself.

use std::io::Read;

/// No kernel configuration is longer than this.
const MOST: u64 = 4 << 20;

/// The configuration's text, if the machine shows it.
pub(super) struct Config(Option<String>);

impl Config {
    /// From /proc/config.gz, else /boot/config-RELEASE.
    pub fn read() -> Self {
        let mut text = String::new();
        if let Ok(file) = std::fs::File::open("/proc/config.gz")
            && flate2::read::GzDecoder::new(file).take(MOST).read_to_string(&mut text).is_ok()
        {
            return Self(Some(text));
        }
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Self(std::fs::read_to_string(format!("/boot/config-{release}")).ok())
    }

    /// `CONFIG_VETH=m, CONFIG_BRIDGE is not set`; `None` without options or a configuration.
    pub fn evidence(&self, options: &[&str]) -> Option<String> {
        let text = self.0.as_ref().filter(|_| !options.is_empty())?;
        let said = |option: &&str| {
            let set = text.lines().find_map(|l| l.strip_prefix(*option)?.strip_prefix('='));
            set.map_or_else(|| format!("{option} is not set"), |value| format!("{option}={value}"))
        };
        Some(options.iter().map(said).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_what_is_set() {
        let config = super::Config(Some("# CONFIG_A is not set\nCONFIG_VETH=m\nCONFIG_VETHX=y\n".into()));
        let said = config.evidence(&["CONFIG_VETH", "CONFIG_A"]);
        assert_eq!(said.as_deref(), Some("CONFIG_VETH=m, CONFIG_A is not set"));
        assert_eq!(config.evidence(&[]), None);
        assert_eq!(super::Config(None).evidence(&["CONFIG_A"]), None);
    }
}
