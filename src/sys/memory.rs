//! Memory that was freed and that the allocator keeps.

/// Gives the system back what nothing holds any more. glibc keeps it for the next request: after a session with pictures that
/// is tens of MiB, in pages that small things lie between. Blocks for some milliseconds. Nothing with another libc.
pub fn give_back_free() {
    #[cfg(target_env = "gnu")]
    trim();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate has a safe form of malloc_trim")]
fn trim() {
    // SAFETY: it takes a number, may be called from any thread at any time, and touches nothing that is in use.
    let _gave_some_back = unsafe { libc::malloc_trim(0) };
}
