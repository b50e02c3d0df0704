//! How many heaps the C library keeps.
//!
//! Each thread that finds a heap of glibc in use makes one of its own, up to eight per core, and what is freed in one serves
//! nobody in another. A worker brings a dozen threads of librdkafka, of which few are ever busy.
#![allow(unsafe_code)]

use std::num::NonZeroUsize;

/// By which a user of glibc says how many.
const HEAPS: &str = "MALLOC_ARENA_MAX";

/// A heap for every two workers, unless the environment says otherwise. To be called before threads are started; does nothing
/// where the C library is not glibc.
pub fn share(workers: NonZeroUsize) {
    if std::env::var_os(HEAPS).is_some() {
        return;
    }
    #[cfg(target_env = "gnu")]
    {
        let heaps = i32::try_from(workers.get().div_ceil(2)).unwrap_or(i32::MAX);
        // SAFETY: a setting of the allocator, which takes any number and is guarded by its own lock.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = workers;
}
