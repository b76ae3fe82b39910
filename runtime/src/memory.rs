//! Handing memory back to the kernel, freed or only read at the start, and watching what a test's code allocates.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_long;
use std::time::Duration;
use std::{env, fs, io};

/// Returns what this thread and the ended ones have freed to the kernel, for threads that free much at once and then
/// sleep: the allocator purges by itself only when it is called again.
///
/// Takes about a millisecond; never call it on a shard. Without effect where mimalloc is not the process's allocator.
pub fn give_back() {
    // SAFETY: `mi_collect` may be called on any thread at any time; it touches the calling thread's own heap and the
    // shared arenas under the allocator's own synchronisation.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Sets how long freed memory stays with the process before the allocator purges it ([`crate::limits::PURGE_DELAY`] is meant
/// for one that serves); `MIMALLOC_PURGE_DELAY` in the environment has precedence. Without effect where mimalloc is not
/// the process's allocator.
pub fn keep_freed_for(delay: Duration) {
    let millis = c_long::try_from(delay.as_millis()).unwrap_or(c_long::MAX);
    // SAFETY: the option exists (see below), and is an integer that any thread may set at any time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY_OPTION, millis) };
}

/// `mi_option_purge_delay`, which the bindings do not name: the one before this, in mimalloc 2 and 3.
const PURGE_DELAY_OPTION: libmimalloc_sys::mi_option_t = libmimalloc_sys::mi_option_use_numa_nodes - 1;

/// Takes the pages of this program's file out of the process: code and constants that only the start needed are no
/// longer resident, and what runs comes back page by page from the kernel's cache, at about a microsecond each. Gives the
/// bytes that were resident.
///
/// For once, after the start: every hot page pays a fault afterwards.
///
/// # Errors
/// When `/proc/self/smaps` cannot be read, or the kernel refuses.
pub fn forget_file_pages() -> io::Result<u64> {
    let own = env::current_exe()?;
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let mut forgotten = 0;
    for mapping in clean_file_mappings(&smaps, &own.to_string_lossy()) {
        // SAFETY: the range is one mapping of this process that is private, not writable, backed by its program file and
        // without a page of its own (Anonymous: 0), so every page dropped here is read again from the same file with the
        // same bytes. `madvise` touches no other range, and nobody unmaps the program.
        let result = unsafe {
            libc::madvise(
                mapping.start as *mut libc::c_void,
                mapping.end - mapping.start,
                libc::MADV_DONTNEED,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        forgotten += mapping.resident_bytes;
    }
    Ok(forgotten)
}

/// One mapping of a file.
#[derive(Debug, PartialEq)]
struct Mapping {
    start: usize,
    end: usize,
    resident_bytes: u64,
}

/// The mappings of `path` in `smaps` that nobody can write and nobody has written. Source: proc_pid_smaps(5).
fn clean_file_mappings(smaps: &str, path: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    let mut current: Option<Mapping> = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some((start, end)) = first.split_once('-') {
            let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
            let ours = matches!(second, "r-xp" | "r--p") && line.ends_with(path);
            current = range.filter(|_| ours).map(|(start, end)| Mapping { start, end, resident_bytes: 0 });
        } else if let Some(mapping) = &mut current {
            match (first, second.parse::<u64>()) {
                ("Rss:", Ok(kib)) => mapping.resident_bytes = kib * 1024,
                // Pages the loader has relocated exist nowhere else: they must stay.
                ("Anonymous:", Ok(0)) => found.extend(current.take()),
                ("Anonymous:", _) => current = None,
                _ => {}
            }
        }
    }
    found
}

/// The system's allocator, which tells a function of every allocation (its bytes) and release (its bytes, negative),
/// on the thread that makes it. For tests that bound what code allocates; the function must not allocate itself.
#[derive(Debug)]
pub struct Observed(pub fn(isize));

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Observed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        (self.0)(-(layout.size() as isize));
        // SAFETY: `memory` came from `System.alloc` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_and_read_only_mappings_of_the_program_are_found() {
        let smaps = "\
1000-3000 r--p 00000000 fe:00 7 /bin/a
Rss:                   4 kB
Anonymous:             0 kB
3000-5000 r-xp 00002000 fe:00 7 /bin/a
Rss:                   8 kB
Anonymous:             0 kB
5000-6000 r--p 00004000 fe:00 7 /bin/a
Rss:                   4 kB
Anonymous:             4 kB
6000-7000 rw-p 00005000 fe:00 7 /bin/a
Rss:                   4 kB
Anonymous:             0 kB
8000-9000 r-xp 00000000 fe:00 8 /lib/libc.so.6
Rss:                   4 kB
Anonymous:             0 kB
";
        let ranges: Vec<_> = clean_file_mappings(smaps, "/bin/a")
            .iter()
            .map(|mapping| (mapping.start, mapping.end, mapping.resident_bytes))
            .collect();
        assert_eq!(ranges, [(0x1000, 0x3000, 4096), (0x3000, 0x5000, 8192)]);
    }

    /// Other defaults would mean that it is another option: 10 in mimalloc 2, 1000 in mimalloc 3.
    #[test]
    fn the_option_that_is_set_is_the_purge_delay() {
        // SAFETY: reading an option changes nothing.
        let read = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY_OPTION) };
        if env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert!(matches!(read(), 10 | 1000), "{}", read());
            keep_freed_for(Duration::from_millis(77));
            assert_eq!(read(), 77);
        }
    }

    #[test]
    fn the_program_runs_on_after_its_pages_were_forgotten() {
        assert!(forget_file_pages().unwrap() > 0);
        // Formatting runs code and reads constants that were just dropped.
        assert_eq!(format!("{:?}", (1, "two", 3.5)), "(1, \"two\", 3.5)");
    }
}
