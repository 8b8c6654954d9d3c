//! The structs of `ringway.h`, field by field, and a table of where each field lies: the tests ask a C
//! compiler for the same.

use crate::argument::{DEFAULT, Sized0};
use core::ffi::{c_char, c_void};
use core::mem::offset_of;

/// Where the fields of a struct lie.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in C.
    pub name: &'static str,
    /// Its bytes.
    pub size: usize,
    /// Its fields, their offsets and their bytes.
    pub fields: &'static [(&'static str, usize, usize)],
}

macro_rules! structs {
    ($($name:ident $c_name:literal { $($field:ident: $type:ty,)* })*) => {
        $(
            #[derive(Clone, Copy)]
            #[repr(C)]
            pub struct $name {
                $(pub $field: $type,)*
            }
        )*

        /// Every struct of the ABI.
        pub static LAYOUTS: &[Layout] = &[
            $(Layout {
                name: $c_name,
                size: size_of::<$name>(),
                fields: &[$((stringify!($field), offset_of!($name, $field), size_of::<$type>()),)*],
            },)*
        ];
    };
}

structs! {
    Slice "ringway_slice_t" {
        data: *const c_void,
        len: usize,
    }
    Receipt "ringway_receipt_t" {
        queue: u64,
        position: u64,
        receives: u16,
        reserved: [u16; 3],
    }
    Record "ringway_record_t" {
        position: u64,
        len: usize,
        missed: u64,
    }
    Entry "ringway_entry_t" {
        record: Record,
        body: *const c_void,
    }
    Received "ringway_received_t" {
        receipt: Receipt,
        sent_ms: u64,
        len: usize,
    }
    Delivery "ringway_delivery_t" {
        received: Received,
        body: *const c_void,
    }
    Sent "ringway_sent_t" {
        position: u64,
        status: i32,
        duplicate: u32,
    }
    Attribute "ringway_attribute_t" {
        name: *const c_char,
        label: *const c_char,
        value: *const c_void,
        len: usize,
        data_type: i32,
        reserved: i32,
    }
    BusConfig "ringway_bus_config_t" {
        size: usize,
        root: *const c_char,
        participant_name: *const c_char,
        pool_bytes: u64,
        mode: u64,
        group: u64,
        how: i32,
        pre_touch: i32,
    }
    ChannelConfig "ringway_channel_config_t" {
        size: usize,
        slots: u64,
        stride: u64,
        readers: u64,
        stall_timeout_ms: u64,
        how: i32,
        producers: i32,
        overflow: i32,
        huge_pages: i32,
    }
    ReaderConfig "ringway_reader_config_t" {
        size: usize,
        position: u64,
        start: i32,
        reliability: i32,
        idle: i32,
        reserved: i32,
    }
    QueueConfig "ringway_queue_config_t" {
        size: usize,
        slots: u64,
        stride: u64,
        max_bytes: u64,
        visibility_ms: u64,
        delay_ms: u64,
        retention_ms: u64,
        max_message_bytes: u64,
        receive_wait_ms: u64,
        stall_timeout_ms: u64,
        dedup_ids: u64,
        dedup_window_ms: u64,
        how: i32,
        kind: i32,
        redeliver_on_death: i32,
        huge_pages: i32,
        dedup: i32,
        dedup_scope: i32,
    }
    SettingsStruct "ringway_settings_t" {
        size: usize,
        visibility_ms: u64,
        delay_ms: u64,
        retention_ms: u64,
        max_message_bytes: u64,
        receive_wait_ms: u64,
        max_messages: u64,
        max_in_flight: u64,
        dead_letter: u64,
        max_receives: u64,
        redrive_sources: [u64; 10],
        redrive_allow: i32,
        redeliver_on_death: i32,
    }
    ReceiverConfig "ringway_receiver_config_t" {
        size: usize,
        visibility_ms: u64,
        idle: i32,
        reserved: i32,
    }
    OutgoingStruct "ringway_outgoing_t" {
        size: usize,
        body: *const c_void,
        len: usize,
        delay_ms: u64,
        group: *const c_char,
        dedup_id: *const c_char,
        trace_header: *const c_char,
        attributes: *const c_void,
    }
    MessageParts "ringway_message_parts_t" {
        body: *const c_void,
        len: usize,
        group: *const c_char,
        dedup_id: *const c_char,
        trace_header: *const c_char,
        attributes: usize,
        sender: u64,
        origin_queue: u64,
        origin_position: u64,
        origin_receives: u64,
    }
    ObjectInfo "ringway_object_info_t" {
        bytes: u64,
        object: i32,
        reserved: i32,
        name: [u8; 88],
    }
    ChannelStats "ringway_channel_stats_t" {
        tail: u64,
        trim: u64,
        readers: u64,
        producer: u64,
        abandoned: u64,
        voided: u64,
        renewed: u64,
        damaged: u64,
        dropped: u64,
    }
    QueueStats "ringway_queue_stats_t" {
        visible: u64,
        in_flight: u64,
        delayed: u64,
        parked: u64,
        moving: u64,
        oldest_age_ms: u64,
        capacity: u64,
        rings: u64,
        bytes: u64,
        sent: u64,
        received: u64,
        deleted: u64,
        expired: u64,
        released: u64,
        purged: u64,
        moved: u64,
        arrived: u64,
        duplicates: u64,
        damaged: u64,
    }
    Waitable "ringway_waitable_t" {
        reader: *mut c_void,
        receiver: *mut c_void,
    }
}

/// What nobody has said anything in: numbers say nothing, choices and pointers are 0.
macro_rules! sized {
    ($($name:ident $first:literal { $($number:ident)* } { $($choice:ident)* } { $($pointer:ident)* })*) => {$(
        // SAFETY: repr(C), begins with `size: usize`, and holds integers and raw pointers alone.
        unsafe impl Sized0 for $name {
            const FIRST: usize = $first;
            fn initial() -> Self {
                Self {
                    size: size_of::<Self>(),
                    $($number: DEFAULT,)*
                    $($choice: Default::default(),)*
                    $($pointer: core::ptr::null(),)*
                }
            }
        }
    )*};
}

sized! {
    BusConfig 56 { pool_bytes mode group } { how pre_touch } { root participant_name }
    ChannelConfig 56 { slots stride readers stall_timeout_ms }
        { how producers overflow huge_pages } {}
    ReaderConfig 32 {} { position start reliability idle reserved } {}
    QueueConfig 120 {
        slots stride max_bytes visibility_ms delay_ms retention_ms max_message_bytes
        receive_wait_ms stall_timeout_ms dedup_ids dedup_window_ms
    } { how kind redeliver_on_death huge_pages dedup dedup_scope } {}
    SettingsStruct 168 {
        visibility_ms delay_ms retention_ms max_message_bytes receive_wait_ms max_messages
        max_in_flight dead_letter max_receives
    } { redrive_sources redrive_allow redeliver_on_death } {}
    ReceiverConfig 24 { visibility_ms } { idle reserved } {}
    OutgoingStruct 64 { delay_ms } { len }
        { body group dedup_id trace_header attributes }
}

/// Sizes of results in the first version of the ABI.
pub const FIRST_MESSAGE_PARTS: usize = 80;
pub const FIRST_CHANNEL_STATS: usize = 72;
pub const FIRST_QUEUE_STATS: usize = 152;

const _: () = {
    // As long as there is one version only. A struct that grows leaves its first size where it is.
    assert!(size_of::<BusConfig>() == BusConfig::FIRST);
    assert!(size_of::<ChannelConfig>() == ChannelConfig::FIRST);
    assert!(size_of::<ReaderConfig>() == ReaderConfig::FIRST);
    assert!(size_of::<QueueConfig>() == QueueConfig::FIRST);
    assert!(size_of::<SettingsStruct>() == SettingsStruct::FIRST);
    assert!(size_of::<ReceiverConfig>() == ReceiverConfig::FIRST);
    assert!(size_of::<OutgoingStruct>() == OutgoingStruct::FIRST);
    assert!(size_of::<MessageParts>() == FIRST_MESSAGE_PARTS);
    assert!(size_of::<ChannelStats>() == FIRST_CHANNEL_STATS);
    assert!(size_of::<QueueStats>() == FIRST_QUEUE_STATS);
};
