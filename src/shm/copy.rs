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
    let words = src.len() / 8;
    let (from, to) = (src.as_ptr().cast::<u64>(), dst.cast::<AtomicU64>());
    for i in 0..words {
        // SAFETY: i < src.len() / 8, so eight bytes are readable at `from + i` (unaligned) and
        // writable at `to + i`, which is aligned, by the caller's promise.
        unsafe { (*to.add(i)).store(from.add(i).read_unaligned(), Ordering::Relaxed) };
    }
    let rest = &src[words * 8..];
    if !rest.is_empty() {
        // SAFETY: the length rounded up to 8 lies inside by the caller's promise.
        unsafe { (*to.add(words)).store(last_word(rest), Ordering::Relaxed) };
    }
}

/// Fewer than eight bytes as a word. Out of the way of the common lengths, which have no rest.
#[cold]
fn last_word(rest: &[u8]) -> u64 {
    let mut word = [0u8; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_ne_bytes(word)
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
    let words = dst.len() / 8;
    let (from, to) = (src.cast::<AtomicU64>(), dst.as_mut_ptr().cast::<u64>());
    for i in 0..words {
        // SAFETY: i < dst.len() / 8, so `from + i` is inside and aligned by the caller's promise,
        // and eight bytes are writable at `to + i` (unaligned).
        unsafe { to.add(i).write_unaligned((*from.add(i)).load(Ordering::Relaxed)) };
    }
    let rest = &mut dst[words * 8..];
    if !rest.is_empty() {
        // SAFETY: the length rounded up to 8 lies inside by the caller's promise.
        let value = unsafe { (*from.add(words)).load(Ordering::Relaxed) };
        spread_last_word(rest, value);
    }
}

#[cold]
fn spread_last_word(rest: &mut [u8], value: u64) {
    rest.copy_from_slice(&value.to_ne_bytes()[..rest.len()]);
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
