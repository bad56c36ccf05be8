//! `netsetup`.

/// Entry point of `netsetup`.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
