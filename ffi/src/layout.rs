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
    ($($(#[$about:meta])* $name:ident $c_name:literal { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$about])*
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
        receives: u64,
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
        journal_root: *const c_char,
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
        journal_max_bytes: u64,
        how: i32,
        kind: i32,
        redeliver_on_death: i32,
        huge_pages: i32,
        dedup: i32,
        dedup_scope: i32,
        durability: i32,
        read_ahead: i32,
        spill: i32,
        reserved: i32,
    }
    SettingsStruct "ringway_settings_t" {
        size: usize,
        id: u64,
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
        group: *const c_char,
        dedup_id: *const c_char,
        trace_header: *const c_char,
        attributes: *const Attribute,
        attribute_count: usize,
        delay_ms: u64,
        subject: *const c_char,
        per_protocol: i32,
        reserved: i32,
    }
    Published "ringway_published_t" {
        message_id: [u64; 2],
        status: i32,
        duplicate: u32,
    }
    MessageParts "ringway_message_parts_t" {
        body: *const c_void,
        len: usize,
        group: *const c_char,
        dedup_id: *const c_char,
        trace_header: *const c_char,
        subject: *const c_char,
        attributes: *const Attribute,
        attribute_count: usize,
        sender: u64,
        origin_queue: u64,
        origin_position: u64,
        origin_receives: u64,
        message_id: [u64; 2],
        published_ms: u64,
    }
    Parked "ringway_parked_t" {
        position: u64,
        receives: u64,
        sent_ms: u64,
    }
    MoveConfig "ringway_move_config_t" {
        size: usize,
        destination: *const c_void,
        max_per_second: u64,
        what: i32,
        reserved: i32,
    }
    MoveStatus "ringway_move_status_t" {
        moved: u64,
        to_move: u64,
        started_ms: u64,
        destination: u64,
        runner: u64,
        state: i32,
        reserved: i32,
    }
    StreamConfig "ringway_stream_config_t" {
        size: usize,
        shards: u64,
        slots: u64,
        stride: u64,
        readers: u64,
        lease_timeout_ms: u64,
        stall_timeout_ms: u64,
        retention_ms: u64,
        retention_bytes: u64,
        how: i32,
        overflow: i32,
        kinesis_limits: i32,
        huge_pages: i32,
        durability: i32,
        on_demand: i32,
        producers: i32,
        reserved: i32,
    }
    StreamProducerConfig "ringway_stream_producer_config_t" {
        size: usize,
        aggregate_bytes: u64,
        aggregate_records: u64,
        linger_ms: u64,
        aggregate: i32,
        reserved: i32,
    }
    HashKey "ringway_hash_key_t" {
        high: u64,
        low: u64,
    }
    #[derive(Default)]
    SequenceNumber "ringway_sequence_number_t" {
        shard: u64,
        position: u64,
    }
    Put "ringway_put_t" {
        partition_key: *const c_char,
        data: *const c_void,
        len: usize,
        hash_key: *const HashKey,
    }
    PutOutcome "ringway_put_outcome_t" {
        sequence_number: SequenceNumber,
        status: i32,
        reserved: i32,
    }
    StreamRecord "ringway_stream_record_t" {
        sequence_number: SequenceNumber,
        sub_sequence_number: u64,
        arrival_ms: u64,
        partition_key: *const c_char,
        data: *const c_void,
        len: usize,
        missed: u64,
    }
    StreamReaderConfig "ringway_stream_reader_config_t" {
        size: usize,
        group: *const c_char,
        consumer: *const c_char,
        shard: u64,
        sequence_number: SequenceNumber,
        timestamp_ms: u64,
        iterator: i32,
        reliability: i32,
        idle: i32,
        take_over: i32,
    }
    ChangeConfig "ringway_change_config_t" {
        size: usize,
        name: *const c_char,
        hash_key: *const HashKey,
        shard: u64,
        second: u64,
        count: u64,
        retention_ms: u64,
        retention_bytes: u64,
        what: i32,
        behind: i32,
    }
    Changed "ringway_changed_t" {
        shards: [u64; 2],
        count: u64,
    }
    ConsumerInfo "ringway_consumer_info_t" {
        registered_ms: u64,
        subscriber: u64,
        behind: u64,
        records: u64,
        bytes: u64,
        gaps: u64,
        lost: u64,
        waits: u64,
        refusals: u64,
        evictions: u64,
        subscriptions: u64,
        policy: i32,
        reserved: i32,
        name: [u8; 136],
    }
    ShardInfo "ringway_shard_info_t" {
        shard: u64,
        parents: [u64; 2],
        first: HashKey,
        last: HashKey,
        created_ms: u64,
        closed_ms: u64,
        oldest: u64,
        next: u64,
        durable_position: u64,
        state: i32,
        reserved: i32,
    }
    TopicConfig "ringway_topic_config_t" {
        size: usize,
        listen_slots: u64,
        archive_days: u64,
        archive_slots: u64,
        how: i32,
        kind: i32,
        durability: i32,
        reserved: i32,
    }
    SubscriptionConfig "ringway_subscription_config_t" {
        size: usize,
        endpoint: *const c_char,
        filter: *const c_char,
        dead_letter: *const c_char,
        delivery_policy: *const c_char,
        replay: *const c_char,
        protocol: i32,
        scope: i32,
        raw: i32,
        reserved: i32,
    }
    Subscription "ringway_subscription_t" {
        id: u64,
        delivered: u64,
        retried: u64,
        dead_lettered: u64,
        failed: u64,
        protocol: i32,
        scope: i32,
        raw: i32,
        replay: i32,
        endpoint: [u8; 168],
        dead_letter: [u8; 168],
    }
    ListenerConfig "ringway_listener_config_t" {
        size: usize,
        filter: *const c_char,
        scope: i32,
        behind: i32,
        idle: i32,
        reserved: i32,
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
        durable_position: u64,
        unwritten: u64,
        journal_bytes: u64,
    }
    StreamStats "ringway_stream_stats_t" {
        open_shards: u64,
        closed_shards: u64,
        shards_made: u64,
        positions: u64,
        retained: u64,
        dropped: u64,
        damaged: u64,
        bytes: u64,
        unwritten: u64,
        journal_bytes: u64,
        retention_ms: u64,
        retention_bytes: u64,
        splits: u64,
        merges: u64,
    }
    TopicStats "ringway_topic_stats_t" {
        subscriptions: u64,
        listeners: u64,
        waiting: u64,
        published: u64,
        delivered: u64,
        retried: u64,
        dead_lettered: u64,
        failed: u64,
        damaged: u64,
    }
}

/// A name in a result. The last byte stays 0; names of objects are shorter, and others lie there by
/// accident.
pub fn name_in<const N: usize>(name: &str) -> [u8; N] {
    let mut room = [0; N];
    for (place, byte) in room[..N - 1].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    room
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
    BusConfig 64 { pool_bytes mode group } { how pre_touch }
        { root participant_name journal_root }
    ChannelConfig 56 { slots stride readers stall_timeout_ms }
        { how producers overflow huge_pages } {}
    ReaderConfig 32 {} { position start reliability idle reserved } {}
    QueueConfig 144 {
        slots stride max_bytes visibility_ms delay_ms retention_ms max_message_bytes
        receive_wait_ms stall_timeout_ms dedup_ids dedup_window_ms journal_max_bytes
    } { how kind redeliver_on_death huge_pages dedup dedup_scope durability read_ahead spill reserved } {}
    SettingsStruct 176 {
        id visibility_ms delay_ms retention_ms max_message_bytes receive_wait_ms max_messages
        max_in_flight dead_letter max_receives
    } { redrive_sources redrive_allow redeliver_on_death } {}
    ReceiverConfig 24 { visibility_ms } { idle reserved } {}
    OutgoingStruct 88 { delay_ms } { len attribute_count per_protocol reserved }
        { body group dedup_id trace_header attributes subject }
    MoveConfig 32 { max_per_second } { what reserved } { destination }
    StreamConfig 96 {
        shards slots stride readers lease_timeout_ms stall_timeout_ms retention_ms retention_bytes
    } { how overflow kinesis_limits huge_pages durability on_demand producers reserved } {}
    StreamProducerConfig 40 { aggregate_bytes aggregate_records linger_ms } { aggregate reserved } {}
    StreamReaderConfig 72 { shard }
        { sequence_number timestamp_ms iterator reliability idle take_over } { group consumer }
    ChangeConfig 72 { shard second count retention_ms retention_bytes } { what behind }
        { name hash_key }
    TopicConfig 40 { listen_slots archive_days archive_slots } { how kind durability reserved } {}
    SubscriptionConfig 64 {} { protocol scope raw reserved }
        { endpoint filter dead_letter delivery_policy replay }
    ListenerConfig 32 {} { scope behind idle reserved } { filter }
}

/// Sizes of results in the first version of the ABI.
pub const FIRST_MESSAGE_PARTS: usize = 120;
pub const FIRST_CHANNEL_STATS: usize = 72;
pub const FIRST_QUEUE_STATS: usize = 176;
pub const FIRST_MOVE_STATUS: usize = 48;
pub const FIRST_STREAM_STATS: usize = 112;
pub const FIRST_TOPIC_STATS: usize = 72;

const _: () = {
    // As long as there is one version only. A struct that grows leaves its first size where it is.
    assert!(size_of::<BusConfig>() == BusConfig::FIRST);
    assert!(size_of::<ChannelConfig>() == ChannelConfig::FIRST);
    assert!(size_of::<ReaderConfig>() == ReaderConfig::FIRST);
    assert!(size_of::<QueueConfig>() == QueueConfig::FIRST);
    assert!(size_of::<SettingsStruct>() == SettingsStruct::FIRST);
    assert!(size_of::<ReceiverConfig>() == ReceiverConfig::FIRST);
    assert!(size_of::<OutgoingStruct>() == OutgoingStruct::FIRST);
    assert!(size_of::<MoveConfig>() == MoveConfig::FIRST);
    assert!(size_of::<StreamConfig>() == StreamConfig::FIRST + 8); // grown by `producers`
    assert!(size_of::<StreamProducerConfig>() == StreamProducerConfig::FIRST);
    assert!(size_of::<StreamReaderConfig>() == StreamReaderConfig::FIRST);
    assert!(size_of::<ChangeConfig>() == ChangeConfig::FIRST);
    assert!(size_of::<ListenerConfig>() == ListenerConfig::FIRST);
    assert!(size_of::<TopicConfig>() == TopicConfig::FIRST + 8);
    assert!(size_of::<SubscriptionConfig>() == SubscriptionConfig::FIRST);
    assert!(size_of::<MoveStatus>() == FIRST_MOVE_STATUS);
    assert!(size_of::<StreamStats>() == FIRST_STREAM_STATS);
    assert!(size_of::<TopicStats>() == FIRST_TOPIC_STATS);
    assert!(size_of::<MessageParts>() == FIRST_MESSAGE_PARTS);
    assert!(size_of::<ChannelStats>() == FIRST_CHANNEL_STATS);
    assert!(size_of::<QueueStats>() == FIRST_QUEUE_STATS);
};
