//! `init`.

/// Entry point of `init`.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
