//! The calling program's own pages. Source: getauxval(3), elf(5), madvise(2).

/// Gives back the resident pages of the program's file that are not written to: code and constants, which the kernel
/// maps again, from the file, when they are touched. For a process that stays, and runs little of what its start ran.
pub fn forget_own_program() {
    // SAFETY: getauxval reads what the kernel put on the stack; 0 means that it is not there.
    let (table, size, count) = unsafe {
        (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHENT), libc::getauxval(libc::AT_PHNUM))
    };
    let expected = u64::try_from(size_of::<libc::Elf64_Phdr>()).unwrap_or(0);
    if table == 0 || size != expected || count > 64 {
        return;
    }
    let header = |index: u64| {
        // SAFETY: the kernel says that `count` headers of this size lie at `table`, mapped for as long as we run.
        unsafe { *((table + index * size) as *const libc::Elf64_Phdr) }
    };
    let headers = || (0..count).map(header);
    // Where the file was put: PT_PHDR's own address says so.
    let Some(base) = headers().find(|h| h.p_type == libc::PT_PHDR).and_then(|h| table.checked_sub(h.p_vaddr))
    else {
        return;
    };
    // What the loader has relocated is not what the file holds: the segment that can be written to is left alone, with
    // the page on which another begins in it.
    const PAGE: u64 = 4096;
    for segment in headers().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = (base + segment.p_vaddr).next_multiple_of(PAGE);
        let end = (base + segment.p_vaddr + segment.p_filesz) / PAGE * PAGE;
        if end > start {
            let length = usize::try_from(end - start).unwrap_or(0);
            // SAFETY: a private mapping of a file without writable pages: the same bytes come back when it is read.
            unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_still_runs() {
        super::forget_own_program();
        assert_eq!(format!("{:?}", [1, 2].map(|n: u32| n + 1)), "[2, 3]");
    }
}
