//! Arriving: a queue takes a message of another one in.
//!
//! The target's side of a move, by the mover: bytes are copied with where they come from, the slot is claimed, the
//! source says that it leaves, the copy is committed, the source is done. Steps and crash points are those of
//! [`crate::ring::delivery::moving`]; who decides what moves, and when, is [`super::redrive`].

use super::envelope::Envelope;
use super::moves::Behind;
use super::payload::Body;
use super::{Inner, QueueSender, group};
use crate::error::QueueSendError;
use crate::layout::attributes::OriginRecord;
use crate::layout::queue::MAX_WHOLE_ON_DISK;
use crate::layout::ring::{ChunkRef, MAX_STRIDE, Meta};
use crate::layout::word::{Dlv, NO_TARGET};
use crate::ring::claim::Appender;
use crate::ring::commit::Lost;
use crate::ring::delivery::Standing;
use crate::ring::delivery::link::GroupHash;
use std::sync::Arc;

/// From when on a message ages where it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// From its first send.
    Kept,
    /// From its arrival.
    Anew,
}

impl QueueSender {
    /// Takes a message of `source` that is parked, or held by nobody, into this queue. Whether it is
    /// here now.
    ///
    /// # Errors
    /// Where there is no room for it. It stays parked then.
    pub(super) fn take_in(
        &mut self,
        source: &Inner,
        parked: &Standing<'_>,
        way: (u8, Age),
    ) -> Result<bool, QueueSendError> {
        if self.inner.is_removed() {
            return Err(QueueSendError::Removed);
        }
        let pool = |failure| QueueSendError::Pool(format!("{failure:?}"));
        let from = source.at(parked.position);
        let Some(body) = source.body(parked).map_err(pool)? else {
            from.give_up(parked, &mut source.payloads());
            return Ok(false);
        };
        let Some((group, block)) = self.block_with_origin(source, parked, body) else {
            if parked.stands() {
                from.give_up(parked, &mut source.payloads());
            }
            return Ok(false);
        };
        let tenant = parked.meta().tenant();
        let whole = block.len() + body.len();
        if self.inner.journal.is_some() && whole as u64 > MAX_WHOLE_ON_DISK {
            let (len, max) = (whole, MAX_WHOLE_ON_DISK);
            return Err(QueueSendError::MessageTooLarge { len, max });
        }
        // Copied before the claim, so that the claim is as short as any sender's. It counts if the
        // word that is swapped then is the one that was looked at before.
        let copy = |out: &mut [u8]| source.copy(parked, body, body.block(), out);
        if whole <= self.inline_bytes() {
            let mut bytes = [0; MAX_STRIDE as usize];
            bytes[..block.len()].copy_from_slice(&block);
            if !copy(&mut bytes[block.len()..whole]) {
                return Ok(false);
            }
            let meta = Meta::new(whole as u32, Meta::INLINE, 0).with_tenant(tenant);
            return self.arrive(source, parked, way, group, meta, &bytes[..whole], None);
        }
        let mut loan = self.lend_unchecked(whole)?;
        loan[..block.len()].copy_from_slice(&block);
        if !copy(&mut loan[block.len()..]) {
            return Ok(false);
        }
        let reference = ChunkRef {
            segment: loan.lent.segment,
            chunk: loan.lent.chunk,
            version: loan.lent.version,
            len: whole as u64,
        };
        self.note_payloads();
        let bytes = bytemuck::bytes_of(&reference);
        let meta = Meta::new(bytes.len() as u32, Meta::CHUNK, 0).with_tenant(tenant);
        let arrived = self.arrive(source, parked, way, group, meta, bytes, Some(loan.lent))?;
        if arrived {
            self.loans.sent(loan);
        }
        Ok(arrived)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what is moved, from where, to where"
    )]
    /// Steps 1 to 5, and where the source is on disk what comes before them. Whether the message stands
    /// here now.
    fn arrive(
        &mut self,
        source: &Inner,
        parked: &Standing<'_>,
        (route, age): (u8, Age),
        group: Option<GroupHash>,
        meta: Meta,
        bytes: &[u8],
        lent: Option<crate::pool::lend::Lent>,
    ) -> Result<bool, QueueSendError> {
        let inner = Arc::clone(&self.inner);
        if group.is_none() && inner.delivery.is_fifo() {
            return Err(QueueSendError::MissingGroup);
        }
        let from = source.at(parked.position);
        // Before anything is claimed: an open claim is in the way of others, and a disk may take long.
        let announced = match source.journal {
            Some(_) => match from.announce_move(parked, route) {
                None => return Ok(false),
                announced => announced,
            },
            None => None,
        };
        let take_back = || announced.map(|announced| from.take_back(&announced));
        if announced.is_some()
            && let Err(why) = source.reach_consumed()
        {
            take_back();
            let why = why.to_string();
            return Err(QueueSendError::NotOnDisk { why });
        }
        let mut to = self.delivery.clone();
        let claim = loop {
            match self.appender.claim_message(&to, &mut inner.payloads()) {
                Ok(claim) if claim.position & NO_TARGET == NO_TARGET => {
                    Appender::abort(to.ring(), claim);
                }
                Ok(claim) => break claim,
                Err(blocked) => {
                    if let Err(error) = self.go_on(blocked) {
                        take_back();
                        return Err(error);
                    }
                    to = self.delivery.clone();
                }
            }
        };
        let ring = to.ring();
        let position = claim.position;
        let parked = announced.as_ref().unwrap_or(parked);
        if let Some(lent) = lent {
            self.lender.address(lent, inner.object_id, position);
        }
        let Some(moving) = from.begin_move(parked, route, position) else {
            Appender::abort(ring, claim);
            return Ok(false);
        };
        let now = inner.now_ms();
        let sent = match age {
            Age::Kept => {
                // By this queue's epoch; that of a queue on disk wraps.
                let at = source.epoch_ms.wrapping_add(parked.sent());
                let at = at.wrapping_sub(inner.epoch_ms) as i64;
                u64::try_from(at).unwrap_or(0).min(now)
            }
            Age::Anew => now,
        };
        let arriving = Dlv::arriving(ring.me(), position);
        let meta = meta.with_flags(Meta::ATTRIBUTES);
        match group {
            None => claim.fill_message(meta, arriving, sent, bytes),
            Some(group) => claim.fill_message_of(group, 0, meta, arriving, sent, bytes),
        }
        match self.appender.commit(ring, claim) {
            Ok(_) => {}
            Err(lost) => {
                // Unless whoever took this mover for stalled has done so already.
                from.take_back(&moving);
                return match lost {
                    Lost::Abandoned => Ok(false),
                    Lost::Corrupt => Err(QueueSendError::Corrupt { position }),
                };
            }
        }
        if let Some(lent) = lent {
            self.lender.attach(lent);
        }
        let disks = Behind {
            source: Some(source),
            target: Some(&inner),
        };
        let tenant = &mut source.payloads();
        match from.end_move(&moving, &to, position, tenant, &disks) {
            true => Ok(true),
            // Whoever meets it there, or here, goes on.
            false => Err(QueueSendError::DurabilityUnknown {
                position,
                why: "it arrives as soon as the disk takes it".to_owned(),
            }),
        }
    }

    /// The attribute block of a message as it is, with where it comes from, and what its group is here,
    /// if this is a FIFO queue. `None` when there is none to be read, or none any more.
    fn block_with_origin(
        &self,
        source: &Inner,
        parked: &Standing<'_>,
        body: Body,
    ) -> Option<(Option<GroupHash>, Vec<u8>)> {
        let mut old = vec![0; body.block()];
        if !old.is_empty() && !source.copy(parked, body, 0, &mut old) {
            return None;
        }
        let mut envelope = match old.is_empty() {
            true => Envelope::default(),
            false => Envelope::parse(&old)?,
        };
        let sender = envelope
            .origin
            .map_or(parked.sender(), |origin| origin.sender);
        envelope.origin = Some(OriginRecord {
            queue: source.object_id,
            position: parked.position,
            receives: parked.times_received(),
            sender,
            reserved: 0,
        });
        let mut block = Vec::new();
        envelope.encode(&mut block);
        let group = envelope.group.filter(|_| self.inner.delivery.is_fifo());
        let group = group.map(|group| group::hash(&self.inner.group_key, group));
        Some((group, block))
    }
}
