//! A number that a process shares with the children that it clones, without any system call.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// A word in memory that stays shared over clone(2) and is gone with exec. Source: mmap(2), MAP_SHARED.
#[derive(Debug)]
pub struct Word(NonNull<AtomicU32>);

// SAFETY: the pointer is to an atomic in a mapping that lives as long as the value.
unsafe impl Send for Word {}
// SAFETY: as above; an atomic may be used from several threads.
unsafe impl Sync for Word {}

impl Word {
    /// A new word, 0.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> io::Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours lies there.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU32>(), access, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(Word).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }

    fn atomic(&self) -> &AtomicU32 {
        // SAFETY: the mapping is page-aligned, zeroed, large enough, and lives until drop.
        unsafe { self.0.as_ref() }
    }

    /// What was stored last, by any of the processes.
    pub fn load(&self) -> u32 {
        self.atomic().load(Ordering::Acquire)
    }

    /// Stores a value for all of the processes.
    pub fn store(&self, value: u32) {
        self.atomic().store(value, Ordering::Release);
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: the mapping that new() made; no reference outlives the value.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicU32>()) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_a_number() {
        let word = super::Word::new().unwrap();
        assert_eq!(word.load(), 0);
        word.store(7);
        assert_eq!(word.load(), 7);
    }
}
