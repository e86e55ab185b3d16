//! How glibc's allocator gives memory back to the system.

/// Free bytes at the top of the heap from which on they are given back, and not
/// sooner. Setting it also ends glibc's habit of raising this and the size from
/// which on it maps blocks one by one (mallopt(3), `M_TRIM_THRESHOLD`), which kept
/// blocks of freed media in the heap. Measured: tests/bench/README.md.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: i32 = 1 << 20;

/// Sets the allocator for a host of many streams; call it before any thread is
/// started. Of other allocators than glibc's it asks nothing.
pub fn tune() {
    #[cfg(target_env = "gnu")]
    trim_at(TRIM_THRESHOLD);
}

#[cfg(target_env = "gnu")]
#[allow(
    unsafe_code,
    reason = "no crate has a safe wrapper of mallopt; it takes two numbers and no pointer"
)]
fn trim_at(bytes: i32) {
    // SAFETY: mallopt may be called at any time; the values are of its manual.
    // It answers 0 when it knows no such setting, and nothing is changed then.
    let _ = unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, bytes) };
}
