//! Paths below /proc as C strings without an allocation each: a scan makes thousands.

use std::ffi::CStr;

/// A number in decimal.
#[derive(Default)]
pub struct Digits([u8; 11]);

impl Digits {
    /// The number in decimal.
    pub fn of(&mut self, mut number: u32) -> &CStr {
        let mut at = self.0.len() - 1;
        while at > 0 {
            at -= 1;
            if let Some(digit) = self.0.get_mut(at) {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
            }
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.get(at..).and_then(|b| CStr::from_bytes_until_nul(b).ok()).unwrap_or_default()
    }
}

/// Paths `PID/…`.
pub struct PidPath {
    bytes: [u8; 24],
    length: usize,
}

impl PidPath {
    /// The directory of a process.
    pub fn new(pid: u32) -> Self {
        let mut digits = Digits::default();
        let pid = digits.of(pid).to_bytes();
        let mut bytes = [0u8; 24];
        if let Some(slot) = bytes.get_mut(..pid.len()) {
            slot.copy_from_slice(pid);
        }
        Self { bytes, length: pid.len() }
    }

    /// Something in it, `/ns`: at most 12 bytes, more is cut.
    pub fn to(&mut self, below: &str) -> &CStr {
        let rest = self.bytes.get_mut(self.length..).unwrap_or_default();
        rest.fill(0);
        for (slot, byte) in rest.iter_mut().zip(below.bytes().take(12)) {
            *slot = byte;
        }
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        for n in [0, 7, 10, 4_294_967_295] {
            assert_eq!(Digits::default().of(n).to_str().unwrap(), n.to_string());
        }
    }

    #[test]
    fn paths() {
        let mut path = PidPath::new(4_194_304);
        assert_eq!(path.to("/task"), c"4194304/task");
        assert_eq!(path.to("/ns"), c"4194304/ns");
    }
}
