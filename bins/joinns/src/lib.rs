//! `joinns`.

/// Entry point of `joinns`.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
