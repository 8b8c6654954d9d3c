//! Asking for a cache line before it is needed. A hint: it never faults, whatever the address, and
//! does nothing where the processor is not an x86-64.

/// Asks for the line of `at` to write: one transfer instead of a load and an upgrade.
#[inline(always)]
pub fn to_write(at: *mut u8) {
    // By name: the intrinsic turns into a prefetch for reading where the build does not ask for
    // `prfchw`. Every x86-64 processor takes it, an old one as a `nop`.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it never faults, whatever the address.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at.addr(),
            options(nostack, preserves_flags, nomem));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for the line of `at` to read.
#[inline(always)]
pub fn to_read(at: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) at.addr(),
            options(nostack, preserves_flags, nomem));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
