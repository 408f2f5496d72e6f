//! Memory that is no longer used goes back to the system.
//!
//! Left alone, glibc keeps for good what one large transaction took: half a gigabyte for a million rows. It has an arena
//! for each thread, hands back only what is free at an arena's end, and that only above a limit that grows with the largest
//! piece ever freed, up to 64 MiB. Asked to, it hands back the rest, but not the ends of arenas other than the first. And
//! mysql_async keeps its packets' buffers, each of them as large as 4 MiB.
#![allow(unsafe_code, reason = "there is no other way to the environment and to the C library's allocator")]

/// What mysql_async reads when it needs the first buffer.
const BUFFER_SIZE: &str = "MYSQL_ASYNC_BUFFER_SIZE_CAP";

/// An event of rows has 8 KiB, unless a single row is larger.
const BUFFER_BYTES: &str = "65536";

/// From now on. To be called before there is another thread.
pub(crate) fn hand_back() {
    if std::env::var_os(BUFFER_SIZE).is_none() {
        // SAFETY: no other thread reads the environment meanwhile.
        unsafe { std::env::set_var(BUFFER_SIZE, BUFFER_BYTES) };
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::hand_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{ffi::c_int, thread, time::Duration};

    /// Larger pieces are mapped each by itself, and unmapped when they are freed.
    const MAPPED_BYTES: c_int = 1 << 20;

    /// How often what is free between what is used is looked for.
    const EVERY: Duration = Duration::from_secs(10);

    pub(super) fn hand_back() {
        // SAFETY: they are numbers, and no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            // Once it is set, glibc raises no limit by itself.
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        }
        let trim = || loop {
            thread::sleep(EVERY);
            // SAFETY: it takes the arenas' own locks, and leaves what is in use.
            unsafe { libc::malloc_trim(0) };
        };
        // Without that thread everything else works.
        let _ = thread::Builder::new().name("trim".to_owned()).spawn(trim);
    }
}
