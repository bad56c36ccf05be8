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
        let mut tool = tool.disable_help_subcommand(true);
        tool.build();
        pages(&tool, &man)?;
    }
    Ok(())
}

/// One page for the tool and one for each of its commands, as git has them: container-run(1).
fn pages(command: &Command, dir: &Path) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages(sub, dir)?;
    }
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    fs::write(dir.join(page.get_filename()), finish(&text))
}

/// Keeps the lines of what stands after the options, and says what every tool's exit codes are.
fn finish(page: &str) -> String {
    let (page, notes) = page.split_once(".SH EXTRA\n").unwrap_or((page, ""));
    let (notes, rest) = match notes.find(".SH ") {
        Some(end) => notes.split_at(end),
        None => (notes, ""),
    };
    let notes = if notes.is_empty() { String::new() } else { format!(".SH NOTES\n.nf\n{notes}.fi\n") };
    format!("{page}{notes}{EXIT_STATUS}{rest}")
}

/// The same in every tool.
const EXIT_STATUS: &str = ".SH \"EXIT STATUS\"
0, or that of the command that was run; 128+n if signal n ended it.
.TP
1
A check found something (gc \\-\\-check, rootfs check, doctor); a poststart hook failed, and the command was ended (start, run \\-d).
.TP
2
Bad input; nothing was touched.
.TP
125
The tool itself failed.
.TP
126
The command was found but cannot be executed.
.TP
127
The command was not found.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_lines() {
        let page = finish(".SH NAME\nx\n.SH EXTRA\na  b\nc  d\n.SH VERSION\nv1\n");
        assert!(
            page.starts_with(".SH NAME\nx\n.SH NOTES\n.nf\na  b\nc  d\n.fi\n.SH \"EXIT STATUS\"\n"),
            "{page}"
        );
        assert!(page.ends_with("not found.\n.SH VERSION\nv1\n"), "{page}");
        assert!(finish(".SH NAME\nx\n").starts_with(".SH NAME\nx\n.SH \"EXIT STATUS\"\n"));
    }

    #[test]
    fn every_command_says_what_it_is() {
        fn check(command: &Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        tools().iter().for_each(check);
    }
}
