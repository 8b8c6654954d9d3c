//! The bytes of what travels beside the body of a queue's message: its attributes, the user's and those of the
//! system, and where it came from.

use core::mem::offset_of;

/// In front of the body of a message that has attributes, where its header says so
/// ([`super::ring::Meta::ATTRIBUTES`]): this head, then `entries` entries, then zeros up to `bytes`.
///
/// ```text
/// 0 bytes u32   4 entries u16   6 0 u16   8 entry …   bytes: the body
/// entry: 0 value_bytes u32   4 name_bytes u16   6 label_bytes u8   7 kind u8   8 name label value
/// ```
/// System attributes come first, in the order of their kinds and each at most once, then up to
/// [`MAX_ATTRIBUTES`] of the user's. An entry begins where the last one ends, at any byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttributeBlock {
    /// Bytes of the block, this head included: a multiple of 8, so that the body is aligned.
    pub bytes: u32,
    /// Entries, system attributes included.
    pub entries: u16,
    pub reserved: u16,
}

/// Head of one attribute.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttributeEntry {
    pub value_bytes: u32,
    /// 0 for a system attribute: its kind is its name.
    pub name_bytes: u16,
    /// Bytes of the custom label behind the type; 0: none.
    pub label_bytes: u8,
    /// One of [`attribute`].
    pub kind: u8,
}

const _: () = {
    assert!(size_of::<AttributeBlock>() == 8 && size_of::<AttributeEntry>() == 8);
    assert!(offset_of!(AttributeBlock, entries) == 4);
    assert!(offset_of!(AttributeEntry, name_bytes) == 4);
    assert!(offset_of!(AttributeEntry, label_bytes) == 6);
    assert!(offset_of!(AttributeEntry, kind) == 7);
};

/// Kinds of attribute entries.
pub mod attribute {
    /// The user's, text.
    pub const STRING: u8 = 1;
    /// The user's, a decimal number as text.
    pub const NUMBER: u8 = 2;
    /// The user's, bytes.
    pub const BINARY: u8 = 3;
    /// System: the message group.
    pub const GROUP: u8 = 16;
    /// System: the deduplication id.
    pub const DEDUP_ID: u8 = 17;
    /// System: the trace header.
    pub const TRACE_HEADER: u8 = 18;
    /// System: where a moved message came from, an [`super::OriginRecord`].
    pub const ORIGIN: u8 = 19;
}

/// Where a message that was moved came from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct OriginRecord {
    /// Object id of the queue.
    pub queue: u64,
    /// Its position there.
    pub position: u64,
    /// How often it was received there.
    pub receives: u16,
    /// The participant that had sent it.
    pub sender: u16,
    pub reserved: u32,
}

const _: () = assert!(size_of::<OriginRecord>() == 24);

/// The user's attributes of one message: as many as SQS allows.
pub const MAX_ATTRIBUTES: usize = 10;

/// Longest block: the attributes of a message take no more than SQS allows for a whole message
/// (1 MiB), and their heads and the system attributes little beside it.
pub const MAX_BLOCK_BYTES: usize = (1 << 20) + 4096;
