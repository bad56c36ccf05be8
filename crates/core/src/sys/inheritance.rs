//! The arguments and the environment that a process was executed with, as /proc/PID/{cmdline,environ} show them.
//! Source: execve(2), proc_pid_environ(5): the strings lie one behind the other, arguments first.

use std::os::unix::ffi::OsStrExt;

// SAFETY: environ(7), which every C library has; the libc crate has it for glibc only.
unsafe extern "C" {
    static environ: *mut *mut libc::c_char;
}

/// Overwrites the process's environment with nothing, and its arguments with `title`: for one that goes where strangers can
/// read them. [`std::env::vars`] is empty afterwards. The calling process must have one thread; it must not have changed its
/// environment's variables.
pub fn forget(title: &str) {
    let args: Vec<Vec<u8>> = std::env::args_os().map(|arg| arg.as_bytes().to_vec()).collect();
    // SAFETY: one thread, so nobody changes the array or reads a variable meanwhile. Each pointer up to the NULL is to a
    // NUL-terminated string in writable memory (the kernel's block on the stack, or what setenv(3) has made).
    unsafe {
        let environment = (&raw const environ).read();
        if environment.is_null() {
            return;
        }
        let first = environment.read();
        let mut at = environment;
        while !at.read().is_null() {
            let word = at.read();
            overwrite(word.cast(), libc::strlen(word), &[]);
            at = at.add(1);
        }
        environment.write(std::ptr::null_mut());
        if !first.is_null() {
            forget_arguments(first.cast(), &args, title);
        }
    }
}

/// `end`: where the environment's strings begin, which is where the arguments' end. They are left alone if what lies there
/// is something else.
///
/// # Safety
/// The first environment string is the kernel's.
// SAFETY: see above; called by `forget` alone.
unsafe fn forget_arguments(end: *mut u8, args: &[Vec<u8>], title: &str) {
    let length: usize = args.iter().map(|arg| arg.len() + 1).sum();
    let block: Vec<u8> = args.iter().flat_map(|arg| arg.iter().copied().chain([0])).collect();
    // SAFETY: the stack's strings lie above its pointers to them, so memory below the first environment string is mapped for
    // at least as long as all arguments; it is only written to if it is the arguments.
    unsafe {
        let start = end.sub(length);
        if std::slice::from_raw_parts(start, length) == block {
            overwrite(start, length, title.as_bytes());
        }
    }
}

/// Fills with `text` and zeros, not to be optimized away; the last byte is a zero.
///
/// # Safety
/// `length` bytes from `at` are writable.
// SAFETY: see above; each caller says why.
unsafe fn overwrite(at: *mut u8, length: usize, text: &[u8]) {
    for n in 0..length {
        let byte = text.get(n).copied().filter(|_| n + 1 < length).unwrap_or(0);
        // SAFETY: within the caller's bounds.
        unsafe { at.add(n).write_volatile(byte) };
    }
}
