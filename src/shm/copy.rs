//! Copies between private and shared memory, where the shared side may change at any time.
//!
//! On x86-64 every copy is an instruction the compiler can't look into, so no data race exists for
//! the language: up to 64 bytes by two pairs of moves that may overlap (4 instructions for 32
//! bytes instead of 30 in a loop over words), up to 768 by 64 bytes a turn, beyond by `rep movsb`,
//! which moves as much as `memcpy`. Elsewhere copies go word by word through relaxed atomics. The
//! bytes may be torn when a peer writes meanwhile; callers validate after the copy.

/// Lengths that [`copy_short_in`] and [`copy_short_out`] move.
pub const SHORT: core::ops::RangeInclusive<usize> = 8..=64;

#[cfg(target_arch = "x86_64")]
mod moves {
    use core::arch::asm;

    /// From here on `rep movsb` wins (measured on Zen 3 and 4; below it its start-up costs more
    /// than the moves).
    const LONG: usize = 768;

    /// How sixteen bytes come into a register: at once,
    macro_rules! whole {
        ($register:literal, $from:literal, $second:literal) => {
            concat!("movups ", $register, ", [", $from, "]")
        };
    }

    /// or eight by eight; `$second` is the address of the second eight.
    macro_rules! halves {
        ($register:literal, $from:literal, $second:literal) => {
            concat!(
                "movq ", $register, ", qword ptr [", $from, "]\n",
                "movhps ", $register, ", qword ptr [", $second, "]"
            )
        };
    }

    macro_rules! short {
        ($(#[$doc:meta])* $name:ident, $load:ident) => {
            $(#[$doc])*
            ///
            /// # Safety
            /// 8 <= len <= 64; `len` bytes are readable at `src` and writable at `dst`.
            #[inline(always)]
            pub unsafe fn $name(dst: *mut u8, src: *const u8, len: usize) {
                if len > 32 {
                    // SAFETY: 32 bytes from the first and 32 up to the last lie inside, as
                    // len >= 32.
                    unsafe {
                        asm!(
                            $load!("{a}", "{src}", "{src} + 8"),
                            $load!("{b}", "{src} + 16", "{src} + 24"),
                            $load!("{c}", "{src} + {len} - 32", "{src} + {len} - 24"),
                            $load!("{d}", "{src} + {len} - 16", "{src} + {len} - 8"),
                            "movups [{dst}], {a}",
                            "movups [{dst} + 16], {b}",
                            "movups [{dst} + {len} - 32], {c}",
                            "movups [{dst} + {len} - 16], {d}",
                            src = in(reg) src, dst = in(reg) dst, len = in(reg) len,
                            a = out(xmm_reg) _, b = out(xmm_reg) _,
                            c = out(xmm_reg) _, d = out(xmm_reg) _,
                            options(nostack, preserves_flags),
                        );
                    }
                } else if len >= 16 {
                    // SAFETY: 16 bytes from the first and 16 up to the last lie inside.
                    unsafe {
                        asm!(
                            $load!("{a}", "{src}", "{src} + 8"),
                            $load!("{b}", "{src} + {len} - 16", "{src} + {len} - 8"),
                            "movups [{dst}], {a}",
                            "movups [{dst} + {len} - 16], {b}",
                            src = in(reg) src, dst = in(reg) dst, len = in(reg) len,
                            a = out(xmm_reg) _, b = out(xmm_reg) _,
                            options(nostack, preserves_flags),
                        );
                    }
                } else {
                    // SAFETY: eight bytes from the first and eight up to the last lie inside.
                    unsafe {
                        asm!(
                            "mov {a}, [{src}]",
                            "mov {b}, [{src} + {len} - 8]",
                            "mov [{dst}], {a}",
                            "mov [{dst} + {len} - 8], {b}",
                            src = in(reg) src, dst = in(reg) dst, len = in(reg) len,
                            a = out(reg) _, b = out(reg) _,
                            options(nostack, preserves_flags),
                        );
                    }
                }
            }
        };
    }

    short! {
        /// Moves 8 to 64 bytes. Both halves begin at their own end and may overlap, so no length
        /// has a rest.
        short, whole
    }

    short! {
        /// [`short()`] from bytes that may have been written a moment ago, field by field: they are
        /// loaded eight at a time. A wider load finds no single store to take its bytes from, and
        /// waits until that store has left the store buffer, which stands in line behind every
        /// store into the ring; a sender that fills a struct and sends it would pay one cache miss
        /// after another.
        short_fresh, halves
    }

    /// Moves any number of bytes.
    ///
    /// # Safety
    /// `len` bytes are readable at `src` and writable at `dst`; the two do not overlap.
    #[inline(always)]
    pub unsafe fn any(dst: *mut u8, src: *const u8, len: usize) {
        if super::SHORT.contains(&len) {
            // SAFETY: the caller's promise, and the length was just checked.
            unsafe { short(dst, src, len) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { other(dst, src, len) };
        }
    }

    #[inline(never)]
    unsafe fn other(mut dst: *mut u8, mut src: *const u8, mut len: usize) {
        if len >= LONG {
            // To a whole line first: a misaligned `rep movsb` moves half as much.
            let skip = 64 - dst.addr() % 64;
            // SAFETY: LONG is more than 64, so 64 bytes may be moved; `skip` is at most 64.
            unsafe {
                short(dst, src, 64);
                dst = dst.add(skip);
                src = src.add(skip);
            }
            len -= skip;
            // SAFETY: the caller's promise. The direction flag is clear by the ABI; the
            // instruction touches nothing else.
            unsafe {
                asm!(
                    "rep movsb",
                    inout("rcx") len => _, inout("rdi") dst => _, inout("rsi") src => _,
                    options(nostack, preserves_flags),
                );
            }
            return;
        }
        while len > 64 {
            // SAFETY: more than 64 bytes are left, so 64 bytes may be moved and both pointers
            // still point inside.
            unsafe {
                short(dst, src, 64);
                dst = dst.add(64);
                src = src.add(64);
            }
            len -= 64;
        }
        if len >= 8 {
            // SAFETY: 8 to 64 bytes are left.
            unsafe { short(dst, src, len) };
            return;
        }
        for i in 0..len {
            // SAFETY: i < len.
            unsafe {
                asm!(
                    "mov {byte}, [{src} + {i}]",
                    "mov [{dst} + {i}], {byte}",
                    src = in(reg) src, dst = in(reg) dst, i = in(reg) i, byte = out(reg_byte) _,
                    options(nostack, preserves_flags),
                );
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod words {
    use crate::sync::{AtomicU64, Ordering};

    pub unsafe fn copy_in(dst: *mut u8, src: &[u8]) {
        let words = src.len() / 8;
        let (from, to) = (src.as_ptr().cast::<u64>(), dst.cast::<AtomicU64>());
        for i in 0..words {
            // SAFETY: i < src.len() / 8, so eight bytes are readable at `from + i` (unaligned) and
            // writable at `to + i`, which is aligned, by the caller's promise.
            unsafe { (*to.add(i)).store(from.add(i).read_unaligned(), Ordering::Relaxed) };
        }
        let rest = &src[words * 8..];
        if !rest.is_empty() {
            let mut word = [0u8; 8];
            word[..rest.len()].copy_from_slice(rest);
            // SAFETY: the length rounded up to 8 lies inside by the caller's promise.
            unsafe { (*to.add(words)).store(u64::from_ne_bytes(word), Ordering::Relaxed) };
        }
    }

    pub unsafe fn copy_out(dst: &mut [u8], src: *const u8) {
        let words = dst.len() / 8;
        let (from, to) = (src.cast::<AtomicU64>(), dst.as_mut_ptr().cast::<u64>());
        for i in 0..words {
            // SAFETY: i < dst.len() / 8, so `from + i` is inside and aligned by the caller's
            // promise, and eight bytes are writable at `to + i` (unaligned).
            unsafe { to.add(i).write_unaligned((*from.add(i)).load(Ordering::Relaxed)) };
        }
        let rest = &mut dst[words * 8..];
        if !rest.is_empty() {
            // SAFETY: the length rounded up to 8 lies inside by the caller's promise.
            let value = unsafe { (*from.add(words)).load(Ordering::Relaxed) };
            let count = rest.len();
            rest.copy_from_slice(&value.to_ne_bytes()[..count]);
        }
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
    // SAFETY: the caller's promise for dst; src is a slice.
    unsafe {
        if SHORT.contains(&src.len()) {
            moves::short_fresh(dst, src.as_ptr(), src.len());
        } else {
            moves::any(dst, src.as_ptr(), src.len());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        words::copy_in(dst, src);
    }
}

/// [`copy_in`] for a length in [`SHORT`].
///
/// # Safety
/// As [`copy_in`], and the length is in [`SHORT`].
#[inline(always)]
pub unsafe fn copy_short_in(dst: *mut u8, src: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise for dst and the length; src is a slice.
    unsafe {
        moves::short_fresh(dst, src.as_ptr(), src.len());
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        words::copy_in(dst, src);
    }
}

/// Copies `from` to `out`, which lies in a claimed slot, at any alignment. Without a call for what most parts
/// of a record are: a call of `memcpy` takes longer than the copy of a few bytes. As in [`copy_in`], bytes
/// that were written a moment ago are loaded eight at a time.
///
/// # Panics
/// When the lengths differ.
#[inline(always)]
pub fn copy_part(out: &mut [u8], from: &[u8]) {
    assert!(out.len() == from.len());
    // Most parts first: what is compared before them, each of them pays for.
    #[cfg(target_arch = "x86_64")]
    if SHORT.contains(&from.len()) {
        // SAFETY: both are slices of that length, which is short.
        unsafe { moves::short_fresh(out.as_mut_ptr(), from.as_ptr(), from.len()) };
        return;
    }
    match from.len() {
        0 => {}
        1..4 => {
            for (out, from) in out.iter_mut().zip(from) {
                *out = *from;
            }
        }
        len @ 4..8 => {
            out[..4].copy_from_slice(&from[..4]);
            out[len - 4..].copy_from_slice(&from[len - 4..]);
        }
        _ => out.copy_from_slice(from),
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
    // SAFETY: the caller's promise for src; dst is a slice.
    unsafe {
        moves::any(dst.as_mut_ptr(), src, dst.len());
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        words::copy_out(dst, src);
    }
}

/// [`copy_out`] for a length in [`SHORT`].
///
/// # Safety
/// As [`copy_out`], and the length is in [`SHORT`].
#[inline(always)]
pub unsafe fn copy_short_out(dst: &mut [u8], src: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise for src and the length; dst is a slice.
    unsafe {
        moves::short(dst.as_mut_ptr(), src, dst.len());
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        words::copy_out(dst, src);
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
            let mut part = vec![0xFF; len + 2];
            copy_part(&mut part[1..=len], &source[..len]);
            assert_eq!(part[1..=len], source[..len], "length {len}");
            assert_eq!((part[0], part[len + 1]), (0xFF, 0xFF), "length {len}");
            if SHORT.contains(&len) {
                let (mut short, mut back) = ([0u64; 8], vec![0u8; len]);
                // SAFETY: as above, and the length is short.
                unsafe {
                    copy_short_in(short.as_mut_ptr().cast(), &source[..len]);
                    copy_short_out(&mut back, short.as_ptr().cast());
                }
                assert_eq!(back, source[..len], "short length {len}");
            }
        }
    }
}
