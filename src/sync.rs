//! The door to atomics: `core` in a build, `loom` in a model check.
//!
//! Every ordering that the protocol relies on carries a label from [`Label`]. In a build
//! [`order`] and [`fence_at`] are the identity and cost nothing. In a model check exactly one
//! label may be *weakened* (its ordering becomes `Relaxed`, its fence disappears); a model that
//! still passes then proves that the ordering is not needed or that the model is too small, and
//! the table of weakened variants in `tests/loom` says which. Nothing else in the crate names
//! `core::sync::atomic` for shared words.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use explored::{AtomicU32, AtomicU64};
#[cfg(loom)]
pub use loom::sync::atomic::{Ordering, fence};

#[cfg(loom)]
mod explored;

/// One ordering of the protocol. The letter is the protocol, the pair partner stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Label {
    /// Claimer loads `ctl`: sees the body and header of the record it may overwrite or renew.
    /// Pairs with `CommitStore`, `VoidStore`.
    ClaimLoad = 1,
    /// Claimer's CAS to CLAIMED. Release: a reader that meets the claim over a record it has not
    /// read sees what the claimer relied on, `trim` moved by another producer among it. Pairs with
    /// `ReadLoad`. (Acquire adds nothing: it takes exactly the word that `ClaimLoad` acquired, and
    /// words never come twice.)
    ClaimCas,
    /// Fence behind the claim: no store into the slot is visible before CLAIMED is.
    /// Pairs with `ReadFence`, `GoneFence` and `MoveFence`.
    ClaimFence,
    /// COMMITTED makes header and body visible. Pairs with `ReadLoad`.
    CommitStore,
    /// HELD → VOID by the owner (acknowledge) or by whoever proved it dead: the owner's last
    /// store into the slot is visible to the next claimer. Pairs with `ClaimLoad`.
    VoidStore,
    /// Reader's first load of `ctl`. Pairs with `CommitStore`.
    ReadLoad,
    /// Reader's fence between its copy and the second look at `ctl` or at the chunk's word. Pairs
    /// with `ClaimFence` and `ChunkFence`.
    ReadFence,
    /// Reader's fence behind a look that found the record overwritten, before it asks `trim` whether
    /// to say so. Pairs with `ClaimFence`.
    GoneFence,
    /// Reader moves its cursor or drops its pin: its loads of the slot come before.
    /// Pairs with `ScanLoad`.
    CursorStore,
    /// Fence between storing a pin or cursor and the check `trim <= p`. Orders the two words
    /// *pin* and *trim*; pairs with `TrimFence`.
    PinFence,
    /// Fence between advancing `trim` and scanning pins and cursors. Orders *trim* and *pin*;
    /// pairs with `PinFence`.
    TrimFence,
    /// Scan of pins and cursors: the readers' loads come before the overwrite that follows.
    /// Pairs with `CursorStore`.
    ScanLoad,
    /// `reclaim` is advanced: whoever frees slots by it has seen what the scan saw.
    /// Pairs with `ReclaimLoad`.
    ReclaimStore,
    /// Pairs with `ReclaimStore`.
    ReclaimLoad,
    /// Chunk OWNED/ATTACHED → FREE: the last access to its bytes comes before.
    /// Pairs with `ChunkTake`.
    ChunkFree,
    /// Chunk FREE → OWNED. Pairs with `ChunkFree`.
    ChunkTake,
    /// Fence behind taking or recycling a chunk: whoever copied a byte stored after it sees the
    /// new version. Pairs with `ReadFence`.
    ChunkFence,
    /// Chunk OWNED → ATTACHED: the address beside the word. Pairs with `SweepLoad`.
    ChunkAttach,
    /// A sweep looks at a chunk: it sees the address that an ATTACHED stands for. Pairs with
    /// `ChunkAttach`.
    SweepLoad,
    /// Fence between raising the sleepers flag and the re-check. Orders *flag* and *ctl*; pairs
    /// with `WakeFence`.
    SleepFence,
    /// Fence between commit and the look at the sleepers flag. Orders *ctl* and *flag*; pairs
    /// with `SleepFence`.
    WakeFence,
    /// The futex word changes: who sees it sees the flag lowered before. Pairs with `SleepLoad`.
    WakeStore,
    /// A sleeper takes the futex word before it raises the flag: were the flag raised below an
    /// older wake, that wake would lower it again. Pairs with `WakeStore`.
    SleepLoad,
    /// Participant word FREE(gen+1): the sweep comes before. Pairs with `JoinCas`.
    ReapStore,
    /// Participant word FREE → ALIVE. Pairs with `ReapStore`.
    JoinCas,
    /// Role word passes on or is given back: what the holder did comes before.
    /// Pairs with `RoleTake`.
    RoleRelease,
    /// Role word is taken. Pairs with `RoleRelease`.
    RoleTake,
    /// `dlv` becomes DONE: the consumer's last load of the body comes before. Pairs with
    /// `ReuseLoad`.
    DoneStore,
    /// A producer finds DONE in its way. Pairs with `DoneStore`.
    ReuseLoad,
    /// Fence between a copy made under a lease and the second look at `dlv`: who copied a byte of
    /// a later message sees that the lease is over. Pairs with `ClaimFence`.
    LeaseFence,
    /// Fence between giving out a lease and the look at the due words. Orders *dlv* and *due*;
    /// pairs with `SweepFence`. In a FIFO queue also between that lease and the look at another
    /// message of its group: orders *dlv* and *dlv*, and pairs with itself.
    DueFence,
    /// A ring is sealed: the last position that was taken before is seen taken. Pairs with
    /// `ClaimLoad` and `ReadLoad`.
    SealStore,
    /// Fence between raising a due word and the look at what lies below it. Orders *due* and
    /// *dlv*; pairs with `DueFence`.
    SweepFence,
    /// Fence between a look at MOVING and the look at the position it names: that shows the claim,
    /// or what became of it. Pairs with `ClaimFence`, behind which `dlv` became MOVING.
    MoveFence,
    /// A message of a group was linked, noted as the last, or passed by the cursor: what was linked
    /// before it is visible, and so is its producer's commit. Pairs with `LinkLoad`.
    LinkStore,
    /// Pairs with `LinkStore`.
    LinkLoad,
    /// Fence between linking a message behind another and the look whether that one is DONE. Orders
    /// *next* and *dlv*; pairs with `SettleFence`.
    LinkFence,
    /// Fence between making a message DONE or settled and the look at the one behind it or before it.
    /// Orders *dlv* with *next*, and *dlv* with *dlv*; pairs with `LinkFence` and with itself.
    SettleFence,
    /// The look whether the message before is DONE: what its consumer did comes before. Pairs with
    /// `DoneStore`.
    TurnLoad,
    /// A hint is given: the message it names is visible. Pairs with `HintLoad`.
    HintStore,
    /// A hint is taken. Pairs with `HintStore`.
    HintLoad,
    /// Fence behind WRITING: no store into the entry is visible before it. Pairs with `DedupRead`.
    DedupWrite,
    /// Fence between a copy of an entry, with a look at the slot it names, and the second look at
    /// its word: what was copied is of that word, and who saw the slot reused sees SEALED. Pairs
    /// with `DedupWrite` and `ClaimFence`.
    DedupRead,
    /// LIVE makes hash and expiry of an entry visible. Pairs with `DedupLoad`.
    DedupPublish,
    /// A sender looks at an entry. Pairs with `DedupPublish`.
    DedupLoad,
    /// Fence between a sender's LIVE and its look at the others'. Orders *entry* and *entry*; pairs
    /// with itself.
    DedupFence,
    /// Fence between storing the pin of a view and the swap to INFLIGHT: who consumes that lease, or
    /// a later one, sees the pin. Pairs with `ViewScan`.
    ViewPin,
    /// Fence between the load of the `dlv` that is to become DONE and the look at the pins. Pairs
    /// with `ViewPin`.
    ViewScan,
    /// A pin is given back: the loads of the view come before. Pairs with `ViewLook`.
    ViewEnd,
    /// Look at a pin, or taking it over: the loads of an earlier view come before the overwrite that
    /// follows. Pairs with `ViewEnd`.
    ViewLook,
    /// Fence between giving a pin back and the look at `dlv`, for the payload. Orders *pin* and
    /// *dlv*; pairs with `ViewKept`.
    ViewClose,
    /// Fence between DONE of a message that is viewed and the second look at the pins. Orders *dlv*
    /// and *pin*; pairs with `ViewClose`.
    ViewKept,
    /// The journal's writer says how far it reaches: his loads of the slots come before. Pairs with
    /// `DurableLoad`.
    DurableStore,
    /// A producer asks how far the journal reaches, before it overwrites what must be in it. Pairs with
    /// `DurableStore`.
    DurableLoad,
    /// Who consumed sets the bit of the block: DONE comes before. Pairs with `ChangedTake`.
    ChangedNote,
    /// The journal's writer takes the bits of changed blocks, and looks at those. Pairs with
    /// `ChangedNote`.
    ChangedTake,
    /// Fence between setting the bit and the look which flush has begun. Orders *changed* and *begun*;
    /// pairs with `FlushFence`.
    NoteFence,
    /// Fence between beginning a flush and the look at the bits. Orders *begun* and *changed*; pairs
    /// with `NoteFence`.
    FlushFence,
    /// A record of a log counts: its bytes are there. Pairs with `RecordLoad`.
    #[cfg_attr(
        all(not(feature = "topics"), not(loom)),
        expect(dead_code, reason = "topics alone use it")
    )]
    RecordCommit,
    /// A reader's look at the word of a record. Pairs with `RecordCommit`.
    #[cfg_attr(
        all(not(feature = "topics"), not(loom)),
        expect(dead_code, reason = "topics alone use it")
    )]
    RecordLoad,
}

/// The ordering `wanted`, unless a model check weakens this label.
#[cfg(not(loom))]
#[inline(always)]
pub const fn order(_label: Label, wanted: Ordering) -> Ordering {
    wanted
}

/// A fence of the protocol, unless a model check removes it.
#[cfg(not(loom))]
#[inline(always)]
pub fn fence_at(_label: Label, ordering: Ordering) {
    fence(ordering);
}

/// A SeqCst fence that directly follows a read-modify-write of the same thread.
///
/// On x86-64 a locked instruction already is a full barrier (AMD64 APM vol. 2, 7.4.2; Intel SDM
/// vol. 3A, 11.2.2), so only the compiler has to be held back; that saves an `mfence`
/// (about 10 ns) per send on a shared ring.
#[cfg(not(loom))]
#[inline(always)]
pub fn fence_behind_rmw(_label: Label) {
    #[cfg(target_arch = "x86_64")]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    fence(Ordering::SeqCst);
}

#[cfg(loom)]
pub use weakened::{WEAKENED, fence_at, fence_behind_rmw, order};

#[cfg(loom)]
mod weakened {
    use super::{Label, Ordering, fence};

    impl Label {
        /// Every label.
        pub const ALL: [Label; 60] = [
            Label::ClaimLoad,
            Label::ClaimCas,
            Label::ClaimFence,
            Label::CommitStore,
            Label::VoidStore,
            Label::ReadLoad,
            Label::ReadFence,
            Label::GoneFence,
            Label::CursorStore,
            Label::PinFence,
            Label::TrimFence,
            Label::ScanLoad,
            Label::ReclaimStore,
            Label::ReclaimLoad,
            Label::ChunkFree,
            Label::ChunkTake,
            Label::ChunkFence,
            Label::ChunkAttach,
            Label::SweepLoad,
            Label::SleepFence,
            Label::WakeFence,
            Label::WakeStore,
            Label::SleepLoad,
            Label::ReapStore,
            Label::JoinCas,
            Label::RoleRelease,
            Label::RoleTake,
            Label::DoneStore,
            Label::ReuseLoad,
            Label::LeaseFence,
            Label::DueFence,
            Label::SealStore,
            Label::SweepFence,
            Label::MoveFence,
            Label::LinkStore,
            Label::LinkLoad,
            Label::LinkFence,
            Label::SettleFence,
            Label::TurnLoad,
            Label::HintStore,
            Label::HintLoad,
            Label::DedupWrite,
            Label::DedupRead,
            Label::DedupPublish,
            Label::DedupLoad,
            Label::DedupFence,
            Label::ViewPin,
            Label::ViewScan,
            Label::ViewEnd,
            Label::ViewLook,
            Label::ViewClose,
            Label::ViewKept,
            Label::DurableStore,
            Label::DurableLoad,
            Label::ChangedNote,
            Label::ChangedTake,
            Label::NoteFence,
            Label::FlushFence,
            Label::RecordCommit,
            Label::RecordLoad,
        ];
    }

    /// The label under test, 0 for none. Set before a model starts; loom runs it on one thread.
    pub static WEAKENED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    fn is_weak(label: Label) -> bool {
        WEAKENED.load(std::sync::atomic::Ordering::Relaxed) == label as usize
    }

    pub fn order(label: Label, wanted: Ordering) -> Ordering {
        if is_weak(label) {
            Ordering::Relaxed
        } else {
            wanted
        }
    }

    pub fn fence_at(label: Label, ordering: Ordering) {
        if !is_weak(label) {
            fence(ordering);
        }
    }

    pub fn fence_behind_rmw(label: Label) {
        fence_at(label, Ordering::SeqCst);
    }
}
