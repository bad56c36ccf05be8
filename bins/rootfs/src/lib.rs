//! `rootfs`.

/// Entry point of `rootfs`.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
