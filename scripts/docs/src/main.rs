//! `drydock-docs DIR` writes DIR/man/man1/*.1 and the shells' completions, from the tools' own command lines.
#![allow(clippy::print_stderr)] // printing is what it does

use clap::Command;
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

fn tools() -> [Command; 7] {
    [
        drydock_init::command(),
        drydock_netsetup::command(),
        drydock_rootfs::command(),
        drydock_cgroupctl::command(),
        drydock_joinns::command(),
        drydock_monitor::command(),
        drydock_container::command(),
    ]
}

/// Where each shell looks for completions below a `share` directory.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

fn main() -> ExitCode {
    let Some(dir) = env::args_os().nth(1) else {
        eprintln!("drydock-docs: which directory? (drydock-docs dist/share)");
        return ExitCode::from(2);
    };
    match write(&PathBuf::from(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("drydock-docs: {problem}");
            ExitCode::from(125)
        }
    }
}

fn write(dir: &Path) -> io::Result<()> {
    let man = dir.join("man/man1");
    fs::create_dir_all(&man)?;
    for tool in tools() {
        for (shell, place) in SHELLS {
            let place = dir.join(place);
            fs::create_dir_all(&place)?;
            let name = tool.get_name().to_string();
            clap_complete::generate_to(shell, &mut tool.clone(), name, &place)?;
        }
        // One page for the tool and one for each of its commands, as git has them: container-run(1).
        clap_mangen::generate_to(tool, &man)?;
    }
    Ok(())
}
