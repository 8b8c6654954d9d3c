//! L1: bytes only. Every structure that lies in a shared file, with its size and offsets proven
//! right under it, and the words that carry state. No system call, no pointer, no policy.
//! `docs/format.md` describes the same bytes in prose; change both together, and FORMAT.

pub mod attributes;
pub mod bus;
pub mod dedup;
pub mod durable;
pub mod geometry;
pub mod journal;
pub mod pool;
pub mod queue;
pub mod ring;
pub mod stream;
#[cfg(feature = "topics")]
pub mod topic;
pub mod word;

/// Layout version of every ringway file. Open accepts the same major and any minor that is not
/// newer than this build's.
pub const FORMAT_MAJOR: u16 = 1;
/// See [`FORMAT_MAJOR`].
pub const FORMAT_MINOR: u16 = 2;

/// Whether this build reads files of that version.
pub const fn is_readable(major: u16, minor: u16) -> bool {
    major == FORMAT_MAJOR && minor <= FORMAT_MINOR
}

/// Feature bits that an opener has to know (none is defined yet): an unknown bit refuses to open.
pub const FEATURES_REQUIRED: u64 = 0;

/// Stored last, with Release, when everything before it is in place.
pub const READY: u32 = 0x5EAD_F11E;
/// A removed object: whoever still maps it gets `Removed`.
pub const REMOVED: u32 = 0x0DEA_D0B1;

/// First 64 bytes of every ringway file.
///
/// ```text
///  0 magic[8]  8 major u16  10 minor u16  12 ready u32  16 features u64  24 bus_id u64
/// 32 boot_id[16]  48 object_id u64  56 created_ms u64 (Unix time)
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Preamble {
    pub magic: [u8; 8],
    pub major: u16,
    pub minor: u16,
    pub ready: u32,
    pub features: u64,
    pub bus_id: u64,
    pub boot_id: [u8; 16],
    pub object_id: u64,
    pub created_ms: u64,
}

const _: () = {
    assert!(size_of::<Preamble>() == 64);
    assert!(core::mem::offset_of!(Preamble, ready) == 12);
    assert!(core::mem::offset_of!(Preamble, boot_id) == 32);
};

/// Offset of [`Preamble::ready`], which is stored and loaded as an atomic word.
pub const READY_OFFSET: usize = 12;

/// One page: the size of every file's first header.
pub const PAGE: usize = 4096;

/// Two cache lines: words written by different processes stand this far apart, because the
/// adjacent-line prefetcher pulls lines in pairs on x86-64.
pub const LINE_PAIR: usize = 128;
