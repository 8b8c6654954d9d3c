//! One flush: entries in a staging buffer become a block, and bytes of a disk are judged.
//!
//! [`Filling`] writes entries behind each other and at last header, padding and checksums; it holds no
//! memory, so a buffer may belong to a lane. [`check`] says whether bytes are the block that belongs
//! at that place, and if not, whether they were one once: a block that a single flipped bit keeps from
//! being whole was on the disk whole, so a tear did not do it. A tear leaves whole sectors of what was
//! there before; that such a page is one bit away from its checksum happens once in 10⁵ torn pages,
//! and then is reported as damage, never the other way round.

use crate::layout::PAGE;
use crate::layout::journal::{
    BLOCK_MAGIC, BLOCKS_OFFSET, BlockHeader, ENTRIES_OFFSET, EntryHead, MAX_BLOCK, block_bytes,
    block_capacity, entry_bytes,
};
use core::mem::offset_of;
use core::ops::Range;

/// Where a block belongs, and what was durable when it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub object: u64,
    pub epoch: u64,
    pub index: u64,
    pub offset: u64,
    /// As in the header; a check takes any.
    pub previous_end: u64,
}

/// A buffer on its way to become a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    used: usize,
    /// Of the buffer.
    capacity: usize,
    /// Position of the first entry that has one, or the next.
    first: u64,
}

impl Filling {
    /// An empty one in a buffer of `bytes`; `next` is the next position.
    pub fn new(bytes: usize, next: u64) -> Self {
        Self {
            used: ENTRIES_OFFSET,
            capacity: block_capacity(bytes),
            first: next,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.used == ENTRIES_OFFSET
    }

    /// No entry in it has a position below.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The longest entry that an empty buffer of that length takes.
    pub fn longest(bytes: usize) -> usize {
        (block_capacity(bytes) - ENTRIES_OFFSET - size_of::<EntryHead>()) & !7
    }

    /// The longest entry that still fits, if any does.
    pub fn room(&self) -> Option<usize> {
        let free = self
            .capacity
            .checked_sub(self.used + size_of::<EntryHead>())?;
        Some(free & !7)
    }

    /// Whether an entry of `len` bytes still fits.
    pub fn fits(&self, len: usize) -> bool {
        self.room().is_some_and(|room| len <= room)
    }

    /// Appends an entry that fits: `len` bytes of `parts`, from `skip` on.
    pub fn push(&mut self, buffer: &mut [u8], head: EntryHead, parts: &[&[u8]], skip: usize) {
        let len = head.len as usize;
        debug_assert!(self.fits(len));
        let end = self.used + entry_bytes(len);
        let body = self.used + size_of::<EntryHead>();
        buffer[self.used..body].copy_from_slice(bytemuck::bytes_of(&head));
        let (mut at, mut skip) = (body, skip);
        for part in parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let part = &part[skipped..];
            let step = part.len().min(body + len - at);
            buffer[at..at + step].copy_from_slice(&part[..step]);
            at += step;
        }
        buffer[at..end].fill(0);
        self.used = end;
    }

    /// Bytes of the block that it would be now.
    pub fn bytes(&self) -> usize {
        block_bytes(self.used)
    }

    /// Makes it the block of that place.
    pub fn finish(&self, buffer: &mut [u8], place: Place, next: u64, durable: Durable) {
        let bytes = self.bytes();
        let table = table_of(bytes);
        buffer[self.used..bytes].fill(0);
        for page in 0..bytes / PAGE {
            let sum = crc32c::crc32c(&buffer[covered(page, bytes)]);
            let at = table.start + page * 4;
            buffer[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let mut header = BlockHeader {
            magic: BLOCK_MAGIC,
            crc: 0,
            object: place.object,
            epoch: place.epoch,
            index: place.index,
            offset: place.offset,
            bytes: bytes as u32,
            used: self.used as u32,
            first: self.first,
            next,
            durable: durable.position,
            durable_index: durable.index,
            durable_offset: durable.offset,
            previous_end: place.previous_end,
            nonce: 0,
        };
        header.crc = header_sum(&header, &buffer[table]);
        buffer[..ENTRIES_OFFSET].copy_from_slice(bytemuck::bytes_of(&header));
    }
}

/// The watermark that a block carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Durable {
    pub position: u64,
    pub index: u64,
    pub offset: u64,
}

fn table_of(bytes: usize) -> Range<usize> {
    bytes - bytes / PAGE * 4..bytes
}

/// The bytes of a page that its checksum is about.
fn covered(page: usize, bytes: usize) -> Range<usize> {
    let from = if page == 0 {
        ENTRIES_OFFSET
    } else {
        page * PAGE
    };
    // The table of the longest block is a quarter of a page, so only the last page holds it.
    from..((page + 1) * PAGE).min(table_of(bytes).start)
}

fn header_sum(header: &BlockHeader, table: &[u8]) -> u32 {
    let mut header = *header;
    header.crc = 0;
    crc32c::crc32c_append(crc32c::crc32c(bytemuck::bytes_of(&header)), table)
}

/// What stands at the place of a block.
#[derive(Debug)]
pub(super) enum Found {
    /// The block.
    Whole(BlockHeader),
    /// None: nothing, an earlier life's, or one that was torn.
    None,
    /// One that was whole, and whose bytes in this range of it are not what they were.
    Damaged(Range<usize>),
}

/// Judges what stands at `place`. `bytes` begins there, and holds the block whole if there is one: up to
/// the end of the blocks, or [`MAX_BLOCK`].
pub(super) fn check(bytes: &[u8], place: Place) -> Found {
    let Some(head) = bytes.get(..ENTRIES_OFFSET) else {
        return Found::None;
    };
    let header: BlockHeader = bytemuck::pod_read_unaligned(head);
    if !is_at(&header, place) || !has_bounds(&header, bytes.len()) {
        return match flipped_header(bytes, place) {
            Some(bit) => Found::Damaged(bit..bit + 1),
            None => Found::None,
        };
    }
    let len = header.bytes as usize;
    let table = table_of(len);
    if header_sum(&header, &bytes[table.clone()]) != header.crc {
        return match flipped_header(bytes, place) {
            Some(at) => Found::Damaged(at..at + 1),
            None => Found::None,
        };
    }
    let wrong: Vec<usize> = (0..len / PAGE)
        .filter(|page| !page_is_right(bytes, *page, len))
        .collect();
    let (Some(first), Some(last)) = (wrong.first(), wrong.last()) else {
        return Found::Whole(header);
    };
    let range = first * PAGE..(last + 1) * PAGE;
    let was_whole = wrong.iter().all(|page| {
        let covered = covered(*page, len);
        let wanted = sum_of(bytes, *page, len);
        flipped_bit(
            crc32c::crc32c(&bytes[covered.clone()]) ^ wanted,
            covered.len(),
        )
        .is_some()
    });
    if was_whole {
        Found::Damaged(range)
    } else {
        Found::None
    }
}

fn sum_of(bytes: &[u8], page: usize, len: usize) -> u32 {
    let at = table_of(len).start + page * 4;
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn page_is_right(bytes: &[u8], page: usize, len: usize) -> bool {
    crc32c::crc32c(&bytes[covered(page, len)]) == sum_of(bytes, page, len)
}

fn is_at(header: &BlockHeader, place: Place) -> bool {
    header.magic == BLOCK_MAGIC
        && header.object == place.object
        && header.epoch == place.epoch
        && header.index == place.index
        && header.offset == place.offset
}

fn has_bounds(header: &BlockHeader, available: usize) -> bool {
    let (bytes, used) = (header.bytes as usize, header.used as usize);
    bytes.is_multiple_of(PAGE)
        && (PAGE..=MAX_BLOCK.min(available)).contains(&bytes)
        && (ENTRIES_OFFSET..=block_capacity(bytes)).contains(&used)
        && header.first <= header.next
}

/// The byte of header or table with the one bit whose flip makes both right.
fn flipped_header(bytes: &[u8], place: Place) -> Option<usize> {
    let header: BlockHeader = bytemuck::pod_read_unaligned(&bytes[..ENTRIES_OFFSET]);
    let mut near = 0;
    for (found, wanted) in [
        (u64::from(header.magic), u64::from(BLOCK_MAGIC)),
        (header.object, place.object),
        (header.epoch, place.epoch),
        (header.index, place.index),
        (header.offset, place.offset),
    ] {
        near += (found ^ wanted).count_ones();
    }
    // What stands there is no block of this place with a bit flipped.
    if near > 1 {
        return None;
    }
    // In the header: every bit of it is tried, since one may be the length that says where the table is.
    for bit in 0..ENTRIES_OFFSET * 8 {
        let mut copy: [u8; ENTRIES_OFFSET] = bytes[..ENTRIES_OFFSET].try_into().ok()?;
        copy[bit / 8] ^= 1 << (bit % 8);
        let header: BlockHeader = bytemuck::pod_read_unaligned(&copy);
        if is_at(&header, place)
            && has_bounds(&header, bytes.len())
            && header_sum(&header, &bytes[table_of(header.bytes as usize)]) == header.crc
        {
            return Some(bit / 8);
        }
    }
    if !is_at(&header, place) || !has_bounds(&header, bytes.len()) {
        return None;
    }
    // In the table.
    let table = table_of(header.bytes as usize);
    let difference = header_sum(&header, &bytes[table.clone()]) ^ header.crc;
    let at = flipped_bit(difference, table.len())?;
    Some(table.start + at / 8)
}

/// Which bit, flipped among the last `len` bytes that a CRC32C is about, makes this difference. A CRC is linear:
/// the difference depends on the bit's distance to the end alone, and going back by a bit is one step of
/// the shift register.
fn flipped_bit(difference: u32, len: usize) -> Option<usize> {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut state: u32 = POLYNOMIAL;
    // From the last bit of the last byte, the one the register sees last, to the first.
    for back in 0..len * 8 {
        if state == difference {
            let bit = len * 8 - 1 - back;
            return Some(bit);
        }
        state = if state & 1 == 1 {
            state >> 1 ^ POLYNOMIAL
        } else {
            state >> 1
        };
    }
    None
}

/// Where the next block may begin behind `offset`, for a search.
pub(super) const STEP: u64 = PAGE as u64;

/// Whether the header alone says that a block of this segment begins here; its length if so. For
/// searches behind damage: the caller checks it whole.
pub(super) fn may_begin(bytes: &[u8], place: Place) -> bool {
    bytes.get(..ENTRIES_OFFSET).is_some_and(|head| {
        let header: BlockHeader = bytemuck::pod_read_unaligned(head);
        is_at(&header, place)
    })
}

/// Entries of a whole block, in order; ends at the first head that does not fit.
pub(super) fn entries<'a>(
    block: &'a [u8],
    header: &BlockHeader,
) -> impl Iterator<Item = Result<(EntryHead, &'a [u8]), ()>> {
    let used = header.used as usize;
    let mut at = ENTRIES_OFFSET;
    core::iter::from_fn(move || {
        if at >= used {
            return None;
        }
        let body = at + size_of::<EntryHead>();
        let entry = block.get(at..body).and_then(|head| {
            let head: EntryHead = bytemuck::pod_read_unaligned(head);
            let end = at.checked_add(entry_bytes(head.len as usize))?;
            let bytes = block.get(body..body + head.len as usize)?;
            (end <= used).then_some((head, bytes, end))
        });
        match entry {
            Some((head, bytes, end)) => {
                at = end;
                Some(Ok((head, bytes)))
            }
            None => {
                at = used;
                Some(Err(()))
            }
        }
    })
}

const _: () = {
    assert!(BLOCKS_OFFSET.is_multiple_of(PAGE as u64));
    assert!(MAX_BLOCK / PAGE * 4 + ENTRIES_OFFSET <= PAGE);
    assert!(offset_of!(BlockHeader, crc) == 4);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        object: 7,
        epoch: 3,
        index: 1,
        offset: 8192,
        previous_end: 0,
    };

    fn block(len: usize) -> Vec<u8> {
        let mut buffer = vec![0xAA; 64 << 10];
        let mut filling = Filling::new(buffer.len(), 10);
        let body: Vec<u8> = (0..len).map(|i| (i * 7 + 1) as u8).collect();
        let (one, other) = body.split_at(len / 3);
        let head = EntryHead {
            len: len as u32,
            kind: 1,
            flags: 2,
            piece: 0,
            reserved: 0,
            position: 10,
        };
        filling.push(&mut buffer, head, &[one, &[], other], 0);
        let bytes = filling.bytes();
        filling.finish(&mut buffer, PLACE, 11, Durable::default());
        buffer.truncate(bytes);
        let Found::Whole(header) = check(&buffer, PLACE) else {
            panic!("a block is whole when it was made");
        };
        let found: Vec<_> = entries(&buffer, &header).map(Result::unwrap).collect();
        assert_eq!(found, [(head, &body[..])]);
        buffer
    }

    #[test]
    fn every_flipped_bit_is_told_from_a_tear() {
        for len in [1, 4500] {
            let whole = block(len);
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let found = check(&flipped, PLACE);
                let Found::Damaged(range) = &found else {
                    panic!("bit {bit} of {len}: {found:?}");
                };
                assert!(range.contains(&(bit / 8)), "bit {bit}: {range:?}");
            }
        }
    }

    #[test]
    fn a_torn_block_and_one_of_another_place_are_none() {
        let whole = block(9000);
        for sector in 0..whole.len() / 512 {
            for old in [0x00, 0x5B] {
                let mut torn = whole.clone();
                torn[sector * 512..][..512].fill(old);
                if torn != whole {
                    assert!(matches!(check(&torn, PLACE), Found::None), "{sector}");
                }
            }
        }
        for place in [
            Place {
                offset: 4096,
                ..PLACE
            },
            Place { epoch: 4, ..PLACE },
            Place { index: 0, ..PLACE },
            Place { object: 8, ..PLACE },
        ] {
            // One bit away is what a flipped bit looks like; the sum of the header tells.
            assert!(matches!(check(&whole, place), Found::None), "{place:?}");
        }
        assert!(matches!(check(&whole[..4096], PLACE), Found::None));
    }
}
