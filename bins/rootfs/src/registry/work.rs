//! Several layers at once, with one bar, and an end when somebody asks for it.

use crate::interrupt::Interrupt;
use crate::progress;
use drydock_core::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What the workers share.
#[derive(Default)]
pub struct Shared {
    done: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    /// So many more bytes.
    ///
    /// # Errors
    /// When it is time to end.
    pub fn add(&self, bytes: u64) -> Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::failed("interrupted", "what has come so far is kept, and goes on from there"));
        }
        Ok(())
    }
}

/// Does `work` for each of the items, `parallel` at a time. The first error ends all.
///
/// # Errors
/// The first that came.
pub fn each<T: Sync>(
    items: &[T],
    all: u64,
    parallel: u8,
    interrupt: &Interrupt,
    work: impl Fn(&T, &Shared) -> Result<()> + Sync,
) -> Result<()> {
    let shared = Shared::default();
    let next = AtomicUsize::new(0);
    let busy = AtomicUsize::new(0);
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if shared.stop.load(Ordering::Relaxed) {
                break;
            }
            if let Err(error) = work(item, &shared) {
                shared.stop.store(true, Ordering::Relaxed);
                if let Ok(mut slot) = first.lock() {
                    slot.get_or_insert(error);
                }
            }
        }
        busy.fetch_sub(1, Ordering::Release);
    };
    let mut bar = progress::bytes(all, false);
    std::thread::scope(|scope| {
        for _ in 0..usize::from(parallel).min(items.len()) {
            busy.fetch_add(1, Ordering::Relaxed);
            scope.spawn(worker);
        }
        while busy.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(20));
            bar.at_bytes(shared.done.load(Ordering::Relaxed));
            if interrupt.asked() {
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
    });
    let error = first.into_inner().unwrap_or_default();
    match error {
        Some(error) => Err(error),
        None if shared.stop.load(Ordering::Relaxed) => Err(Error::failed("interrupted", "nothing was named")),
        None => Ok(()),
    }
}
