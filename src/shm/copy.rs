//! Copies between private and shared memory, where the shared side may change at any time.
//!
//! Short copies go word by word through relaxed atomics. Long ones use `rep movsb` on x86-64: an
//! instruction the compiler can't look into, so no data race exists for the language, and with
//! fast-string support it moves as much as `memcpy`. The bytes may be torn when a peer writes
//! meanwhile; callers validate after the copy.

use crate::sync::{AtomicU64, Ordering};

/// From here on the long copy wins (measured on Zen 4; below it the start-up of `rep movsb` costs
/// more than the words).
#[cfg(target_arch = "x86_64")]
const LONG: usize = 768;

#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn long(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the callers guarantee len readable bytes at src and len writable bytes at dst. The
    // direction flag is clear by the ABI. The instruction touches nothing else.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") dst => _,
            inout("rsi") src => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies `src` to shared memory at `dst`.
///
/// # Safety
/// `dst` is aligned to 8 and points into a live mapping with at least `src.len()` bytes rounded
/// up to 8 behind it.
#[inline(always)]
pub unsafe fn copy_in(dst: *mut u8, src: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if src.len() >= LONG {
        // SAFETY: the caller's promise for dst; src is a slice.
        return unsafe { long(dst, src.as_ptr(), src.len()) };
    }
    let mut words = src.chunks_exact(8);
    let mut at = dst.cast::<AtomicU64>();
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        // SAFETY: aligned and inside the mapping by the caller's promise; one step per 8 bytes.
        unsafe {
            (*at).store(word.to_le(), Ordering::Relaxed);
            at = at.add(1);
        }
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0u8; 8];
        word[..rest.len()].copy_from_slice(rest);
        // SAFETY: the length rounded up to 8 lies inside by the caller's promise.
        unsafe { (*at).store(u64::from_le_bytes(word).to_le(), Ordering::Relaxed) };
    }
}

/// Copies `dst.len()` bytes out of shared memory at `src`.
///
/// # Safety
/// `src` is aligned to 8 and points into a live mapping with at least `dst.len()` bytes rounded
/// up to 8 behind it.
#[inline(always)]
pub unsafe fn copy_out(dst: &mut [u8], src: *const u8) {
    #[cfg(target_arch = "x86_64")]
    if dst.len() >= LONG {
        // SAFETY: the caller's promise for src; dst is a slice.
        return unsafe { long(dst.as_mut_ptr(), src, dst.len()) };
    }
    let mut at = src.cast::<AtomicU64>();
    let mut words = dst.chunks_exact_mut(8);
    for word in &mut words {
        // SAFETY: aligned and inside the mapping by the caller's promise; one step per 8 bytes.
        let value = unsafe {
            let value = (*at).load(Ordering::Relaxed);
            at = at.add(1);
            value
        };
        word.copy_from_slice(&value.to_ne_bytes());
    }
    let rest = words.into_remainder();
    if !rest.is_empty() {
        // SAFETY: the length rounded up to 8 lies inside by the caller's promise.
        let value = unsafe { (*at).load(Ordering::Relaxed) };
        rest.copy_from_slice(&value.to_ne_bytes()[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_arrives_unchanged_in_both_directions() {
        let source: Vec<u8> = (0..4096u32).map(|i| (i * 31 % 251) as u8).collect();
        let mut shared = vec![0u64; 4096 / 8 + 1];
        for len in (0..200).chain([255, 256, 767, 768, 769, 1000, 4000, 4096]) {
            // SAFETY: `shared` is aligned to 8 and longer than any len rounded up.
            unsafe { copy_in(shared.as_mut_ptr().cast(), &source[..len]) };
            let mut out = vec![0u8; len];
            // SAFETY: as above.
            unsafe { copy_out(&mut out, shared.as_ptr().cast()) };
            assert_eq!(out, source[..len], "length {len}");
        }
    }
}
