//! How the allocator treats what a batch leaves behind.
use pyo3::prelude::*;

/// Free memory at the heap's end that stays with the process, bytes.
const KEPT: libc::c_int = 128 << 20;
/// Blocks below it come from the heap; the largest value that glibc takes.
const FROM_HEAP: libc::c_int = 32 << 20;

/// Keep the memory of a batch for the next one. By default glibc gives blocks of megabytes back to the kernel, which must clear every page
/// that comes again: a third of the gate's time. False: the allocator has no such settings.
#[pyfunction]
pub fn keep_heap() -> bool {
    // SAFETY: mallopt(3) sets two numbers of the allocator; it is called before the process has other threads.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT) == 1 && libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_HEAP) == 1 }
}
