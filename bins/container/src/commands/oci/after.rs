//! Options behind the name, as runc(8) takes them: `run ID --bundle DIR`.

use super::BundleArgs;
use clap::Parser;
use std::path::Path;

/// What may follow `run ID`.
#[derive(Parser, Clone, Debug)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
pub struct After {
    #[command(flatten)]
    bundle: BundleArgs,
    #[arg(short = 'd', long)]
    detach: bool,
    #[arg(long)]
    keep: bool,
}

/// Takes words behind the name as options of a bundle, if that is what they are, and there is that bundle.
pub fn options(words: &[String], before: &BundleArgs) -> Option<After> {
    let (_, rest) = words.split_first()?;
    // `run ID` alone has nothing behind it; `run ls -l` does not parse.
    let after = After::try_parse_from(rest.first()?.starts_with('-').then_some(rest)?).ok()?;
    let dir = after.bundle.bundle.as_deref().or(before.bundle.as_deref()).unwrap_or(Path::new("."));
    dir.join(drydock_bundle::config::FILE).is_file().then_some(after)
}

impl After {
    /// These options and those before the name: the bundle's, `--detach`, `--keep`.
    pub fn join(self, before: BundleArgs) -> (BundleArgs, bool, bool) {
        let own = self.bundle;
        let bundle = BundleArgs {
            bundle: own.bundle.or(before.bundle),
            console_socket: own.console_socket.or(before.console_socket),
            pidfd_socket: own.pidfd_socket.or(before.pidfd_socket),
            pid_file: own.pid_file.or(before.pid_file),
            no_pivot: own.no_pivot || before.no_pivot,
            no_new_keyring: own.no_new_keyring || before.no_new_keyring,
            preserve_fds: own.preserve_fds.max(before.preserve_fds),
            no_subreaper: own.no_subreaper || before.no_subreaper,
        };
        (bundle, self.detach, self.keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_of_a_bundle_that_is_there() {
        let words = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<String>>();
        let dir = std::env::temp_dir().join(format!("drydock-after-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let before = BundleArgs { bundle: Some(dir.clone()), no_pivot: true, ..BundleArgs::default() };
        let given = words(&["id", "-d", "--pid-file=p", "--preserve-fds", "2"]);
        assert!(options(&given, &before).is_none(), "no config.json");
        std::fs::write(dir.join("config.json"), "{}").unwrap();
        let (bundle, detach, keep) = options(&given, &before).unwrap().join(before.clone());
        assert!(detach && !keep && bundle.no_pivot && bundle.preserve_fds == 2 && bundle.pid_file.is_some());
        for other in [&["id"][..], &["ls", "-l"], &["id", "--keep", "word"], &["id", "word"]] {
            assert!(options(&words(other), &before).is_none(), "{other:?}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
