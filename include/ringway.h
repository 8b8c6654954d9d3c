/*
 * ringway.h - a brokerless message bus in shared memory, from C11.
 *
 * A bus is a directory that the processes of one Linux host open. On it lie channels (every reader
 * sees every record, in one order), queues (every message is consumed once, as in SQS), streams (shards
 * of records, in order by key, read again and shared by groups, as in Kinesis) and topics (what is
 * published reaches every queue that wants it, as in SNS). Any process may be killed or stopped at any
 * instruction: nobody waits for it, nothing that was acknowledged is lost with it. What survives what
 * says docs/delivery.md.
 *
 * READ THIS FIRST
 *   Status     Every call returns an int32_t: 0 done, > 0 not now (full, empty, time-out: ordinary,
 *              nothing was changed), < 0 failure. enum ringway_status lists all. What a failure was
 *              about, in words, says ringway_last_error() of the same thread. Out-parameters are
 *              written on 0 only, unless a function says more.
 *   Handles    Made by an ..._open, given back by ringway_close(). They look like pointers and are not
 *              the address of anything: each call checks them, and one that is NULL, closed, of another
 *              kind or made up gets RINGWAY_E_HANDLE. What was opened from a handle outlives it.
 *   Threads    "any" - as many threads at once as you like. "one" - one thread at a time, whichever:
 *              open one handle per thread. Two at once get RINGWAY_E_BUSY_HANDLE where that is seen,
 *              and it is not always seen. No thread may use a handle while another one closes it.
 *   Any handle ringway_close, _release, _poll_fd, _wait_any and _loan_... take handles of several kinds, as
 *              void *.
 *   Fork       In a forked child each call on a handle of its parent returns RINGWAY_E_FORKED (closing
 *              is harmless); open the bus again there. exec is harmless, everything is close-on-exec.
 *   Death      A process that dies leaves no locks. What it had sent stays; what it was sending never
 *              was; what it had received and not deleted is received by others within milliseconds.
 *   Structs    Those that begin with `size` are filled by their ..._init, then changed field by field: a
 *              later library knows by the size which fields you know. Results have a size parameter
 *              for the same reason: pass sizeof. What has neither never changes.
 *   Times      timeout_ns: 0 doesn't wait, RINGWAY_FOREVER does not give up. Others are in ms.
 *   Strings    UTF-8, ended by 0. Bodies are any bytes; a body of length 0 may be NULL.
 *   Versions   Three: of this header (API), of the calls (ABI, the number in libringway.so.0), of the
 *              files (FORMAT). Processes of different API or ABI share a bus if FORMAT agrees.
 *
 * Licence: MIT or Apache-2.0, at your option.
 */
#ifndef RINGWAY_H
#define RINGWAY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define RINGWAY_MUST_CHECK __attribute__((warn_unused_result))
#else
#define RINGWAY_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Constants --------------------------------------------------------------------------------- */

/* Of this header: major in the upper 16 bits, minor in the lower. Compare with
   ringway_version(RINGWAY_API). */
#define RINGWAY_API_VERSION UINT32_C(0x00000001)
/* Of the calls it declares. Compare with ringway_version(RINGWAY_ABI). */
#define RINGWAY_ABI_VERSION UINT32_C(0)

/* For timeout_ns. */
#define RINGWAY_FOREVER (INT64_C(-1))
#define RINGWAY_MILLISECOND INT64_C(1000000)
#define RINGWAY_SECOND INT64_C(1000000000)
/* For receives: as long as the queue says (its receive_wait_ms). */
#define RINGWAY_QUEUE_WAIT INT64_MIN

/* In a config: what the library or the queue says. In settings: stays as it is. */
#define RINGWAY_DEFAULT UINT64_MAX
/* In settings: no limit, no dead-letter queue. Of a shard: no parent. */
#define RINGWAY_NONE (UINT64_MAX - 1)

/* Room for a receipt as text, its final 0 included. */
#define RINGWAY_RECEIPT_TEXT 48
/* Queues that a queue can name in redrive_allow. */
#define RINGWAY_REDRIVE_SOURCES 10

enum ringway_status {
    RINGWAY_OK = 0,

    /* Not now. Nothing was changed; try again later. */
    RINGWAY_FULL = 1,           /* the ring is full: receive, read or delete something */
    RINGWAY_EMPTY = 2,          /* nothing there, and the call was not to wait */
    RINGWAY_TIMEOUT = 3,        /* nothing came within timeout_ns */
    RINGWAY_LAGGED = 4,         /* records were dropped before this reader came: record->missed */
    RINGWAY_STALLED = 5,        /* full, and whoever holds the channel has not moved: stopped? */
    RINGWAY_OVER_LIMIT = 6,     /* the queue's own limit of messages, or of messages in flight */
    RINGWAY_POOL_EXHAUSTED = 7, /* the payload pool of the bus is used up */
    RINGWAY_DEDUP_FULL = 8,     /* as many deduplication ids as there is room for */
    RINGWAY_THROTTLED = 9,      /* an emulated limit of the shard: try again in the next second */
    RINGWAY_END = 10,           /* the one shard that is read is closed, and read to its end */

    /* The call was wrong. */
    RINGWAY_E_ARGUMENT = -1,    /* NULL, misaligned, no such constant, a length no object can have */
    RINGWAY_E_HANDLE = -2,      /* no handle, a closed one, or one of another kind */
    RINGWAY_E_STRUCT_SIZE = -3, /* `size` is none this library knows: call the _init; newer library? */
    RINGWAY_E_BUSY_HANDLE = -4, /* used by another thread, given twice, or a view of it is open */
    RINGWAY_E_PANIC = -5,       /* a bug in ringway; the handle stays unusable */
    RINGWAY_E_NAME = -6,        /* a name of 1 to 80 characters of A-Z a-z 0-9 _ - */
    RINGWAY_E_OPTION = -7,      /* an option, a setting, a delay or a visibility out of its bounds */
    RINGWAY_E_BUFFER_TOO_SMALL = -8, /* the needed length is in the result's len */
    RINGWAY_E_TOO_LARGE = -9,   /* longer than a body may be */
    RINGWAY_E_ID = -10,         /* no group, deduplication id, trace header, subject or partition key */
    RINGWAY_E_ATTRIBUTE = -11,  /* no such attribute possible */
    RINGWAY_E_RECEIPT = -12,    /* no receipt */

    /* Opening. */
    RINGWAY_E_NOT_FOUND = -20,  /* there is none of that name */
    RINGWAY_E_EXISTS = -21,     /* there is one of that name */
    RINGWAY_E_MISMATCH = -22,   /* it exists with another definition */
    RINGWAY_E_FOREIGN = -23,    /* not a file of this kind */
    RINGWAY_E_FORMAT = -24,     /* written by an incompatible version, or needs features we lack */
    RINGWAY_E_DAMAGED = -25,    /* truncated, or written over by another process */
    RINGWAY_E_OTHER_BUS = -26,  /* a file of another bus */
    RINGWAY_E_OTHER_BOOT = -27, /* from before the last boot; open_or_create starts it empty */
    RINGWAY_E_IN_USE = -28,     /* others are using the bus that was to be destroyed */
    RINGWAY_E_NO_SPACE = -29,   /* the file system is full */
    RINGWAY_E_PERMISSION = -30, /* ask its owner for group or mode */
    RINGWAY_E_TOO_MANY = -31,   /* participants, readers, workers, views or redrive targets */
    RINGWAY_E_UNSUPPORTED = -32, /* the file system lacks what a bus stands on */
    RINGWAY_E_IO = -33,         /* anything else the system said */
    RINGWAY_E_BUSY = -34,       /* an exclusive producer lives, another task runs, or shards change */
    RINGWAY_E_NOT_RELIABLE = -35, /* no reliable reader where the oldest records are dropped */

    /* Using. */
    RINGWAY_E_FORKED = -40,     /* a handle of the parent: open the bus again in the child */
    RINGWAY_E_REMOVED = -41,    /* the object was removed: open or create it again */
    RINGWAY_E_UNLINKED = -42,   /* its file was deleted or replaced outside ringway */
    RINGWAY_E_STALE = -43,      /* taken for dead: open the bus (a worker of a group: its reader) again */
    RINGWAY_E_POOL = -44,       /* the payload pool can't be used, or a loan is of another bus */
    RINGWAY_E_GROWTH = -45,     /* the queue is full and can't grow */
    RINGWAY_E_MISSING_GROUP = -46, /* a message to a FIFO queue needs a group */
    RINGWAY_E_MISSING_DEDUP_ID = -47, /* a message to this queue needs a deduplication id */
    RINGWAY_E_NO_DEDUP = -48,   /* this queue compares no deduplication ids */
    RINGWAY_E_DELAY_IN_FIFO = -49, /* no delay of its own for a message to a FIFO queue */
    RINGWAY_E_REDRIVE = -50,    /* that queue can't take the messages of this one */
    RINGWAY_E_NOT_ON_DISK = -51, /* durable: the journal can't be written now, nothing was sent */
    RINGWAY_E_DURABILITY_UNKNOWN = -52, /* durable: sent or deleted, and on disk or not */
    RINGWAY_E_POLICY = -53,     /* no filter policy: ringway_last_error says where */

    /* Settling. */
    RINGWAY_E_STALE_RECEIPT = -60, /* received again since: the receipt of that receive counts */
    RINGWAY_E_NOT_IN_FLIGHT = -61, /* visible again: the lease had ended; it can be deleted still */
    RINGWAY_E_GONE = -62,       /* deleted, purged, or past the retention of the queue */
    RINGWAY_E_OTHER_QUEUE = -63, /* a receipt of another queue */
    RINGWAY_E_FENCED = -64,     /* the shard passed on to another worker: drop what was not checkpointed */
    RINGWAY_E_NO_LEASE = -65,   /* this worker does not read that shard */
    RINGWAY_E_OUT_OF_RANGE = -66, /* not between the checkpoint and what was read */

    RINGWAY_E_OTHER = -99       /* an error newer than this table */
};

enum ringway_version_of { RINGWAY_API = 1, RINGWAY_ABI = 2, RINGWAY_FORMAT = 3 };

/* In a config 0 is always "as the library says, and not compared with what exists". */
enum ringway_how { RINGWAY_OPEN_OR_CREATE = 0, RINGWAY_OPEN = 1, RINGWAY_CREATE = 2 };
enum ringway_switch { RINGWAY_ON = 1, RINGWAY_OFF = 2 };
enum ringway_producers { RINGWAY_SHARED = 1, RINGWAY_EXCLUSIVE = 2 };
enum ringway_overflow { RINGWAY_REFUSE = 1, RINGWAY_DROP_OLDEST = 2 };
enum ringway_kind { RINGWAY_STANDARD = 1, RINGWAY_FIFO = 2 };
/* What was acknowledged survives every process; the machine too; the machine too, but for the last
   moment. */
enum ringway_durability { RINGWAY_MEMORY = 1, RINGWAY_DURABLE = 2, RINGWAY_ASYNC = 3 };
/* The oldest record that is there, the next one that is sent, or a position. Default: latest. */
enum ringway_start { RINGWAY_EARLIEST = 1, RINGWAY_LATEST = 2, RINGWAY_AT = 3 };
/* Producers wait for a reliable reader; a lossy one is told what it missed. */
enum ringway_reliability { RINGWAY_RELIABLE = 1, RINGWAY_LOSSY = 2 };
/* Poll (a whole core), poll for 20 us and then sleep (default), sleep at once. */
enum ringway_idle { RINGWAY_SPIN = 1, RINGWAY_SPIN_THEN_PARK = 2, RINGWAY_PARK = 3 };
/* Each message needs an id; one without has its body's hash for one; one without is not compared
   (default of FIFO queues); ids are refused. */
enum ringway_dedup {
    RINGWAY_DEDUP_BY_ID = 1,
    RINGWAY_DEDUP_BY_CONTENT = 2,
    RINGWAY_DEDUP_OPTIONAL = 3,
    RINGWAY_DEDUP_NONE = 4
};
enum ringway_dedup_scope { RINGWAY_DEDUP_IN_QUEUE = 1, RINGWAY_DEDUP_IN_GROUP = 2 };
enum ringway_allow { RINGWAY_ALLOW_ALL = 1, RINGWAY_ALLOW_NONE = 2, RINGWAY_ALLOW_LISTED = 3 };
enum ringway_type { RINGWAY_STRING = 1, RINGWAY_NUMBER = 2, RINGWAY_BINARY = 3 };
enum ringway_object {
    RINGWAY_UNKNOWN = 0,
    RINGWAY_CHANNEL = 1,
    RINGWAY_QUEUE = 2,
    RINGWAY_STREAM = 3,
    RINGWAY_TOPIC = 4
};
/* What ringway_queue_move does, and how a task stands. */
enum ringway_move { RINGWAY_MOVE = 1, RINGWAY_RESUME = 2, RINGWAY_CANCEL = 3, RINGWAY_LOOK = 4 };
enum ringway_move_state {
    RINGWAY_RUNNING = 1,
    RINGWAY_STOPPED = 2, /* its runner left it or died: RINGWAY_RESUME goes on */
    RINGWAY_CANCELLING = 3,
    RINGWAY_CANCELLED = 4,
    RINGWAY_COMPLETED = 5,
    RINGWAY_FAILED = 6 /* its destination is gone */
};
/* Where to begin: the oldest record, the next one that is put (RINGWAY_LATEST), one that is known or the
   one behind it, the first that arrived at a time or later. A place whose records are gone is the oldest
   there is. */
enum ringway_iterator {
    RINGWAY_TRIM_HORIZON = 1,
    RINGWAY_AT_SEQUENCE_NUMBER = 3,
    RINGWAY_AFTER_SEQUENCE_NUMBER = 4,
    RINGWAY_AT_TIMESTAMP = 5
};
/* It takes records; it was split or merged and has those it took; its memory was given back. */
enum ringway_shard_state {
    RINGWAY_SHARD_OPEN = 1,
    RINGWAY_SHARD_CLOSED = 2,
    RINGWAY_SHARD_RETIRED = 3
};
/* What happens when a registered consumer, or a listener, has fallen behind what is kept: puts wait for it, or
   fail at once; or nobody waits, and it is told what it missed, or is put out. */
enum ringway_behind {
    RINGWAY_BEHIND_BLOCK = 1,
    RINGWAY_BEHIND_FAIL = 2, /* consumers only */
    RINGWAY_BEHIND_DROP_OLDEST = 3,
    RINGWAY_BEHIND_EVICT = 4
};
/* What ringway_stream_change does; what of its config it goes by is said there. */
enum ringway_change {
    RINGWAY_SPLIT = 1,      /* a shard into two, at hash_key or in the middle */
    RINGWAY_MERGE = 2,      /* two shards, whose hash keys follow each other, into one */
    RINGWAY_SCALE = 3,      /* splits and merges until `count` shards of equal ranges are open */
    RINGWAY_RETIRE = 4,     /* gives back the memory of closed shards that everybody has read */
    RINGWAY_RETAIN = 5,     /* keeps the records of a durable stream for longer, or shorter */
    RINGWAY_REGISTER = 6,   /* a consumer: it holds nobody up before somebody reads as it */
    RINGWAY_DEREGISTER = 7, /* who reads as it gets E_STALE */
    RINGWAY_REMOVE_GROUP = 8 /* with its checkpoints; its workers get E_STALE */
};
/* What a subscription delivers to: a queue; a stream, by message group or message id as partition key; a
   queue for the commands of `ringway topic exec`; one for the files of `ringway topic firehose`. */
enum ringway_protocol {
    RINGWAY_TO_QUEUE = 1,
    RINGWAY_TO_STREAM = 2,
    RINGWAY_TO_EXEC = 3,
    RINGWAY_TO_FIREHOSE = 4
};
/* How far a subscription is with what it was to get of the archive first; 0: it was to get nothing. */
enum ringway_replay {
    RINGWAY_REPLAY_PENDING = 1,
    RINGWAY_REPLAY_IN_PROGRESS = 2,
    RINGWAY_REPLAY_COMPLETED = 3
};
/* Where a filter policy looks. */
enum ringway_scope { RINGWAY_IN_ATTRIBUTES = 1, RINGWAY_IN_BODY = 2 };

/* ---- Handles ----------------------------------------------------------------------------------- */

/* This process's membership of a bus, which ends when the last handle that came from it is closed.
   Processes: any number. Threads: any. After fork: E_FORKED, the parent stays. */
typedef struct ringway_bus ringway_bus_t;
/* A channel, open here. Processes: any number. Threads: any. After fork: E_FORKED. */
typedef struct ringway_channel ringway_channel_t;
/* Sends to a channel. Processes: any number, or one where the channel is exclusive; it passes on from a
   dead one. Threads: one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_producer ringway_producer_t;
/* Reads a channel. Processes: up to the channel's `readers`, each sees everything; the seat of a dead
   one is freed within milliseconds. Threads: one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_reader ringway_reader_t;
/* A record held in place beyond the next read. Processes: its own. Threads: any may look and close.
   After fork: not to be looked at. */
typedef struct ringway_view ringway_view_t;
/* A queue, open here. Processes: any number. Threads: any. After fork: E_FORKED. */
typedef struct ringway_queue ringway_queue_t;
/* Sends to a queue. Processes: any number. Threads: one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_sender ringway_sender_t;
/* Receives from a queue. Processes: any number, a message goes to one of them at a time; what a dead one
   had not deleted goes to the others. Threads: one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_receiver ringway_receiver_t;
/* Bytes of the payload pool to fill and send without a copy. Processes: its own; those of a dead one
   go back to the pool. Threads: one. After fork: not to be written to. */
typedef struct ringway_loan ringway_loan_t;
/* A received message with what its sender said about it; memory to be used again and again. Processes:
   its own. Threads: one. After fork: each process has a copy. */
typedef struct ringway_message ringway_message_t;
/* A stream, open here. Processes: any number. Threads: any. After fork: E_FORKED. */
typedef struct ringway_stream ringway_stream_t;
/* Puts records into a stream; those of one key are read in its order. Processes: any number. Threads:
   one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_stream_producer ringway_stream_producer_t;
/* Reads a stream: alone, and sees everything; as a worker of a group, whose workers share the shards; or as a
   registered consumer, which sees everything and says what its being slow does to producers. Processes: any
   number (one for each consumer); the shards of a dead worker go to the others within milliseconds.
   Threads: one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_stream_reader ringway_stream_reader_t;
/* A topic, open here. Processes: any number. Threads: any. After fork: E_FORKED. */
typedef struct ringway_topic ringway_topic_t;
/* Publishes to a topic, and hands on to its queues what it or others published. Processes: any number;
   what a dead one had not handed on the others do. Threads: one. After fork: E_FORKED, the parent goes
   on. */
typedef struct ringway_publisher ringway_publisher_t;
/* Hears what is published to a topic, and holds nobody up unless it asked for that. Processes: any number.
   Threads: one. After fork: E_FORKED, the parent goes on. */
typedef struct ringway_listener ringway_listener_t;

/* ---- Structs ----------------------------------------------------------------------------------- */

/* Bytes of the caller. */
typedef struct ringway_slice {
    const void *data;
    size_t len;
} ringway_slice_t;

/* Names one receive of one message. May be copied, stored, sent elsewhere (as text:
   ringway_receipt_format); whoever has it may settle the message. */
typedef struct ringway_receipt {
    uint64_t queue;
    uint64_t position;
    uint64_t receives; /* how often it had been received, this time included: 1 to 1,023 */
} ringway_receipt_t;

/* A record that was read. */
typedef struct ringway_record {
    uint64_t position; /* grows; with gaps where sends were abandoned */
    size_t len;        /* bytes of body */
    uint64_t missed;   /* with RINGWAY_LAGGED: records lost before position, where reading goes on */
} ringway_record_t;

/* A record of a batch. */
typedef struct ringway_entry {
    ringway_record_t record;
    const void *body;
} ringway_entry_t;

/* A message that was received: everything but the body. */
typedef struct ringway_received {
    ringway_receipt_t receipt;
    uint64_t sent_ms; /* since the Unix epoch */
    size_t len;       /* bytes of body */
} ringway_received_t;

/* The same with its body. */
typedef struct ringway_delivery {
    ringway_received_t received;
    const void *body;
} ringway_delivery_t;

/* What became of a message that was sent. */
typedef struct ringway_sent {
    uint64_t position;  /* grows in the order of sends; of a duplicate: that of what it repeats */
    int32_t status;     /* in a batch: of this message */
    uint32_t duplicate; /* 1: its id was sent before, and it was not sent again */
} ringway_sent_t;

/* A value beside a body, of at most ten by the rules of SQS. Numbers are text. */
typedef struct ringway_attribute {
    const char *name;
    const char *label; /* what is behind the type in "Number.float"; NULL: none */
    const void *value;
    size_t len;
    int32_t data_type; /* enum ringway_type */
    int32_t reserved;
} ringway_attribute_t;

typedef struct ringway_bus_config {
    size_t size;
    const char *root;             /* directory of buses; NULL: $RINGWAY_ROOT, or /dev/shm */
    const char *participant_name; /* in listings; NULL: the program's */
    uint64_t pool_bytes;          /* most bytes of payload pool, at creation: 1 GiB */
    uint64_t mode;                /* permission bits, at creation: 0600 */
    uint64_t group;               /* group id, at creation: the creator's */
    const char *journal_root;     /* directory of journals, on a disk; NULL: $RINGWAY_JOURNAL_ROOT, or root
                                     where that is on a disk, or a state directory of the user */
    int32_t how;                  /* enum ringway_how */
    int32_t pre_touch;            /* enum ringway_switch: fault pages in beforehand: on */
} ringway_bus_config_t;

/* Options that are given have to agree with a channel that exists; defaults are not compared. */
typedef struct ringway_channel_config {
    size_t size;
    uint64_t slots;            /* a power of two from 1,024 to 16,777,216: 32,768 */
    uint64_t stride;           /* bytes of a slot, 64 to 4,096 by 32; 32 are header: 128 */
    uint64_t readers;          /* most readers at a time, 1 to 1,024: 64 */
    uint64_t stall_timeout_ms; /* after it a stopped producer is stepped over: 20 */
    int32_t how;               /* enum ringway_how */
    int32_t producers;         /* enum ringway_producers: shared */
    int32_t overflow;          /* enum ringway_overflow: refuse */
    int32_t huge_pages;        /* enum ringway_switch: off */
} ringway_channel_config_t;

typedef struct ringway_reader_config {
    size_t size;
    uint64_t position;   /* with RINGWAY_AT; the oldest record if that is gone */
    int32_t start;       /* enum ringway_start: latest */
    int32_t reliability; /* enum ringway_reliability: reliable, unless the oldest are dropped */
    int32_t idle;        /* enum ringway_idle: spin, then park */
    int32_t reserved;
} ringway_reader_config_t;

/* Options that are given have to agree with a queue that exists; defaults are not compared. */
typedef struct ringway_queue_config {
    size_t size;
    uint64_t slots;             /* of the first ring, a power of two: 16,384 */
    uint64_t stride;            /* bytes of a slot, 64 (FIFO: 128) to 4,096 by 32: 256 */
    uint64_t max_bytes;         /* it grows up to that: 1 GiB; where slots are given: not at all */
    uint64_t visibility_ms;     /* how long a received message is invisible: 30,000 */
    uint64_t delay_ms;          /* how long a sent one is: 0 */
    uint64_t retention_ms;      /* 60 s to 14 days: 4 days */
    uint64_t max_message_bytes; /* longest body: 262,144 */
    uint64_t receive_wait_ms;   /* RINGWAY_QUEUE_WAIT, 0 to 20,000: 0 */
    uint64_t stall_timeout_ms;  /* after it a stopped sender is stepped over: 20 */
    uint64_t dedup_ids;         /* ids within a window, 64 bytes each: 131,072 */
    uint64_t dedup_window_ms;   /* how long an id counts: 300,000 */
    uint64_t journal_max_bytes; /* on disk: sends are refused behind so many: what the disk has */
    int32_t how;                /* enum ringway_how */
    int32_t kind;               /* enum ringway_kind: standard */
    int32_t redeliver_on_death; /* enum ringway_switch: on */
    int32_t huge_pages;         /* enum ringway_switch: off */
    int32_t dedup;              /* enum ringway_dedup: optional. FIFO queues only */
    int32_t dedup_scope;        /* enum ringway_dedup_scope: in the queue */
    int32_t durability;         /* enum ringway_durability: memory (docs/delivery.md) */
    int32_t read_ahead;         /* enum ringway_switch: durable: receive what is not on disk yet: off */
    int32_t spill;              /* enum ringway_switch: further rings lie on a disk: off */
    int32_t reserved;
} ringway_queue_config_t;

/* Changed for every process at once. */
typedef struct ringway_settings {
    size_t size;
    uint64_t id;            /* of this queue: told by ringway_queue_settings, and not changed */
    uint64_t visibility_ms;
    uint64_t delay_ms;
    uint64_t retention_ms;
    uint64_t max_message_bytes;
    uint64_t receive_wait_ms;
    uint64_t max_messages;  /* or RINGWAY_NONE */
    uint64_t max_in_flight; /* or RINGWAY_NONE */
    uint64_t dead_letter;   /* id of the dead-letter queue, or RINGWAY_NONE */
    uint64_t max_receives;  /* received so often, a message goes there: 1 to 1,000 */
    uint64_t redrive_sources[RINGWAY_REDRIVE_SOURCES]; /* with RINGWAY_ALLOW_LISTED; 0: unused */
    int32_t redrive_allow;      /* enum ringway_allow: who may have this as dead-letter queue */
    int32_t redeliver_on_death; /* enum ringway_switch */
} ringway_settings_t;

typedef struct ringway_receiver_config {
    size_t size;
    uint64_t visibility_ms; /* of what is received here: what the queue says */
    int32_t idle;           /* enum ringway_idle: spin, then park */
    int32_t reserved;
} ringway_receiver_config_t;

/* A message and what is said about it, to a queue or a topic. What isn't said is NULL. */
typedef struct ringway_outgoing {
    size_t size;
    const void *body;
    size_t len;
    const char *group;        /* FIFO: its order; standard queues: its tenant */
    const char *dedup_id;
    const char *trace_header;
    const ringway_attribute_t *attributes;
    size_t attribute_count;
    uint64_t delay_ms;        /* queues: 0 to 900,000; default: what the queue says */
    const char *subject;      /* topics */
    int32_t per_protocol;     /* topics: enum ringway_switch: the body is JSON, a text for each protocol and
                                 one for "default" (MessageStructure): off */
    int32_t reserved;
} ringway_outgoing_t;

/* What became of a message that was published. */
typedef struct ringway_published {
    uint64_t message_id[2]; /* as a UUID: its first and its last 16 digits */
    int32_t status;         /* in a batch: of this message */
    uint32_t duplicate;     /* 1: it repeats one to a FIFO topic, and was not published again */
} ringway_published_t;

/* What lies in a ringway_message_t. Pointers are into it: valid until it is used again or closed. */
typedef struct ringway_message_parts {
    const void *body;
    size_t len;
    const char *group;        /* or NULL, as the next three */
    const char *dedup_id;
    const char *trace_header;
    const char *subject;
    const ringway_attribute_t *attributes;
    size_t attribute_count;
    uint64_t sender;          /* the participant that sent it; 0: it was published */
    uint64_t origin_queue;    /* where it was moved from; 0: it was not moved */
    uint64_t origin_position;
    uint64_t origin_receives;
    uint64_t message_id[2];   /* heard by a listener: as it was published, and when; else 0 */
    uint64_t published_ms;
} ringway_message_parts_t;

/* A message that is not offered any more: received 1,000 times, or as often as the redrive policy says while
   the dead-letter queue has no room. */
typedef struct ringway_parked {
    uint64_t position;
    uint64_t receives;
    uint64_t sent_ms; /* since the Unix epoch */
} ringway_parked_t;

/* What ringway_queue_move is to do. */
typedef struct ringway_move_config {
    size_t size;
    const ringway_queue_t *destination; /* NULL: back to where each message came from */
    uint64_t max_per_second;            /* default: as fast as it goes */
    int32_t what;                       /* enum ringway_move: move */
    int32_t reserved;
} ringway_move_config_t;

/* How the last task of a queue stands. */
typedef struct ringway_move_status {
    uint64_t moved;
    uint64_t to_move; /* when it began */
    uint64_t started_ms;
    uint64_t destination; /* id, or RINGWAY_NONE: where each came from */
    uint64_t runner;      /* participant that runs it, or ran it last; 0: none */
    int32_t state;        /* enum ringway_move_state */
    int32_t reserved;
} ringway_move_status_t;

/* Options that are given have to agree with a stream that exists, but for the number of shards. */
typedef struct ringway_stream_config {
    size_t size;
    uint64_t shards;           /* at creation, 1 to 1,000: 1 */
    uint64_t slots;            /* of each: the most records it retains, a power of two: 8,192 */
    uint64_t stride;           /* bytes of a slot, 64 to 4,096 by 32; 48 are header: 256 */
    uint64_t readers;          /* most readers of a shard at a time, 1 to 991: 64 */
    uint64_t lease_timeout_ms; /* after it a worker that lives and does not read loses its shards: 10,000 */
    uint64_t stall_timeout_ms; /* after it a stopped producer is stepped over: 20 */
    uint64_t retention_ms;     /* on disk: older records go, by segments; 24 h to 365 days: 24 h */
    uint64_t retention_bytes;  /* on disk: most bytes of each shard, or RINGWAY_NONE: none */
    int32_t how;               /* enum ringway_how */
    int32_t overflow;          /* enum ringway_overflow: refuse */
    int32_t kinesis_limits;    /* enum ringway_switch: 1,000 records and 1 MiB a second in, 2 MiB out: off */
    int32_t huge_pages;        /* enum ringway_switch: off */
    int32_t durability;        /* enum ringway_durability: memory (docs/delivery.md) */
    int32_t on_demand;         /* enum ringway_switch: splits and merges by its load: off */
    int32_t producers;         /* enum ringway_producers: shared. Exclusive: one for each shard at a time, from its
                                  first put until it is closed or dead; in memory, with shards that stay */
    int32_t reserved;
} ringway_stream_config_t;

typedef struct ringway_stream_producer_config {
    size_t size;
    uint64_t aggregate_bytes;   /* of a record made of many, 64 to 1,048,576: 8,192 */
    uint64_t aggregate_records; /* that it is made of at most: 1,000 */
    uint64_t linger_ms;         /* how long the first waits for the others: 10 */
    int32_t aggregate;          /* enum ringway_switch: many small records are put as one: off */
    int32_t reserved;
} ringway_stream_producer_config_t;

/* A place in the 128 bits over which shards are spread: MD5 of a partition key, or chosen. */
typedef struct ringway_hash_key {
    uint64_t high;
    uint64_t low;
} ringway_hash_key_t;

/* The number of a record, shard * 2^64 + position: of two the later has the higher one, in a shard and
   in what replaces it. */
typedef struct ringway_sequence_number {
    uint64_t shard;
    uint64_t position;
} ringway_sequence_number_t;

/* A record to put. */
typedef struct ringway_put {
    const char *partition_key; /* 1 to 256 characters: says which shard, and is kept with it */
    const void *data;
    size_t len;                          /* up to 10 MiB */
    const ringway_hash_key_t *hash_key;  /* where it belongs whatever its key says; or NULL */
} ringway_put_t;

/* What became of it. */
typedef struct ringway_put_outcome {
    ringway_sequence_number_t sequence_number;
    int32_t status; /* in a batch: of this record */
    int32_t reserved;
} ringway_put_outcome_t;

/* A record of a stream. */
typedef struct ringway_stream_record {
    ringway_sequence_number_t sequence_number;
    uint64_t sub_sequence_number; /* which it is of those that were put as one under that number */
    uint64_t arrival_ms;          /* since the Unix epoch */
    const char *partition_key;
    const void *data;
    size_t len;
    uint64_t missed; /* with RINGWAY_LAGGED: positions lost before sequence_number, where reading goes on */
} ringway_stream_record_t;

typedef struct ringway_stream_reader_config {
    size_t size;
    const char *group;  /* become a worker of this group, which is made if there is none; NULL: read alone */
    const char *consumer; /* or read as this registered consumer, which RINGWAY_REGISTER made */
    uint64_t shard;     /* this one alone; default: all, and what replaces them. Neither in a group nor as a
                           consumer */
    ringway_sequence_number_t sequence_number; /* with RINGWAY_AT_ and AFTER_SEQUENCE_NUMBER */
    uint64_t timestamp_ms; /* with RINGWAY_AT_TIMESTAMP, since the Unix epoch */
    int32_t iterator;    /* enum ringway_iterator: latest; of a group that is made: trim horizon */
    int32_t reliability; /* enum ringway_reliability: reliable, unless the oldest are dropped */
    int32_t idle;        /* enum ringway_idle: spin, then park. Not as a consumer */
    int32_t take_over;   /* enum ringway_switch: as a consumer: in the place of who reads as it now: off */
} ringway_stream_reader_config_t;

/* What ringway_stream_change is to do. */
typedef struct ringway_change_config {
    size_t size;
    const char *name;                   /* of the consumer or group: 1 to 128 of A-Z a-z 0-9 _ . - */
    const ringway_hash_key_t *hash_key; /* SPLIT: the first of the second shard; NULL: the middle */
    uint64_t shard;                     /* SPLIT, MERGE */
    uint64_t second;                    /* MERGE */
    uint64_t count;                     /* SCALE: 1 to 1,000 */
    uint64_t retention_ms;              /* RETAIN: 24 h to 365 days: as it is */
    uint64_t retention_bytes;           /* RETAIN: of each shard, or RINGWAY_NONE: as it is */
    int32_t what;                       /* enum ringway_change */
    int32_t behind;                     /* REGISTER: enum ringway_behind: block */
} ringway_change_config_t;

/* What it did. */
typedef struct ringway_changed {
    uint64_t shards[2]; /* that SPLIT and MERGE made, or RINGWAY_NONE */
    uint64_t count;     /* splits and merges of SCALE, shards that RETIRE gave back; else 0 */
} ringway_changed_t;

typedef struct ringway_consumer_info {
    uint64_t registered_ms;
    uint64_t subscriber; /* participant that reads as it; 0: none */
    uint64_t behind;     /* positions between it and what is put now */
    uint64_t records;    /* handed out, ever, as all that follows */
    uint64_t bytes;
    uint64_t gaps;       /* it was told of, and positions in them */
    uint64_t lost;
    uint64_t waits;      /* puts that waited for it, or failed because of it */
    uint64_t refusals;
    uint64_t evictions;
    uint64_t subscriptions;
    int32_t policy; /* enum ringway_behind */
    int32_t reserved;
    char name[136];
} ringway_consumer_info_t;

typedef struct ringway_shard_info {
    uint64_t shard;
    uint64_t parents[2]; /* what it replaced, or RINGWAY_NONE */
    ringway_hash_key_t first; /* its hash keys */
    ringway_hash_key_t last;
    uint64_t created_ms;
    uint64_t closed_ms; /* 0: it is open */
    uint64_t oldest;    /* position of the oldest record there is, and of the next one */
    uint64_t next;
    uint64_t durable_position; /* on disk: all below is there; else 0 */
    int32_t state; /* enum ringway_shard_state */
    int32_t reserved;
} ringway_shard_info_t;

typedef struct ringway_topic_config {
    size_t size;
    uint64_t listen_slots;  /* so many messages a listener may be behind, a power of two: 16,384 */
    uint64_t archive_days;  /* FIFO: keeps messages so long, 1 to 365, to be replayed: it keeps none */
    uint64_t archive_slots; /* and so many at most, a power of two: 65,536 */
    int32_t how;            /* enum ringway_how */
    int32_t kind;           /* enum ringway_kind: standard */
    int32_t durability;     /* enum ringway_durability: memory. Durable: a publish waits for the disk, and what
                               was not delivered, and every subscription, survives the machine. Not async */
    int32_t reserved;
} ringway_topic_config_t;

/* What a subscription is to be. */
typedef struct ringway_subscription_config {
    size_t size;
    const char *endpoint;    /* queue or stream that gets the messages; "BUS/NAME": of another bus */
    const char *filter;      /* policy of those it wants, JSON as in SNS; NULL: all */
    const char *dead_letter; /* queue for what can't be delivered; NULL: none */
    const char *delivery_policy; /* when what failed is tried again, JSON as in SNS; NULL: after 20 ms,
                                    40 ms, ... 20 s, 50,000 times, in a FIFO topic 500 times */
    const char *replay;      /* what of the archive it gets first, JSON as in SNS; NULL: nothing */
    int32_t protocol;        /* enum ringway_protocol: queue */
    int32_t scope;           /* enum ringway_scope: attributes */
    int32_t raw;             /* enum ringway_switch: as published, not as a JSON notification: off */
    int32_t reserved;
} ringway_subscription_config_t;

typedef struct ringway_subscription {
    uint64_t id;
    uint64_t delivered;
    uint64_t retried;
    uint64_t dead_lettered;
    uint64_t failed;  /* given up */
    int32_t protocol; /* enum ringway_protocol */
    int32_t scope;    /* enum ringway_scope; 0: no filter */
    int32_t raw;      /* enum ringway_switch */
    int32_t replay;   /* enum ringway_replay */
    char endpoint[168];    /* NAME, or BUS/NAME of another bus */
    char dead_letter[168]; /* "": none */
} ringway_subscription_t;

typedef struct ringway_listener_config {
    size_t size;
    const char *filter; /* policy of what it wants, JSON as in SNS; NULL: all */
    int32_t scope;      /* enum ringway_scope: attributes */
    int32_t behind;     /* enum ringway_behind: drop oldest */
    int32_t idle;       /* enum ringway_idle: spin, then park */
    int32_t reserved;
} ringway_listener_config_t;

typedef struct ringway_object_info {
    uint64_t bytes; /* of its files */
    int32_t object; /* enum ringway_object */
    int32_t reserved;
    char name[88];
} ringway_object_info_t;

typedef struct ringway_channel_stats {
    uint64_t tail;      /* the position of the next record */
    uint64_t trim;      /* no reader can start below */
    uint64_t readers;   /* in use */
    uint64_t producer;  /* participant; 0: none, or shared */
    uint64_t abandoned; /* claims of stopped producers that were stepped over */
    uint64_t voided;    /* claims of dead producers */
    uint64_t renewed;   /* records kept in place for a view */
    uint64_t damaged;   /* slots found with an impossible header */
    uint64_t dropped;   /* records overwritten, oldest first */
} ringway_channel_stats_t;

typedef struct ringway_queue_stats {
    uint64_t visible;   /* to be received now */
    uint64_t in_flight; /* received and not deleted */
    uint64_t delayed;
    uint64_t parked;    /* received 1,000 times, or no room in the dead-letter queue */
    uint64_t moving;    /* on their way to another queue */
    uint64_t oldest_age_ms; /* of all these; UINT64_MAX: there is none */
    uint64_t capacity;  /* slots */
    uint64_t rings;
    uint64_t bytes;
    uint64_t sent;      /* totals, exact within 64 for each handle that is open */
    uint64_t received;
    uint64_t deleted;
    uint64_t expired;
    uint64_t released;  /* leases of the dead that were ended */
    uint64_t purged;
    uint64_t moved;
    uint64_t arrived;
    uint64_t duplicates;
    uint64_t damaged;
    uint64_t durable_position; /* on disk: all below is there; else 0, as the next two */
    uint64_t unwritten;        /* positions that were given out and are not there yet */
    uint64_t journal_bytes;
} ringway_queue_stats_t;

typedef struct ringway_stream_stats {
    uint64_t open_shards;
    uint64_t closed_shards; /* that still have their records */
    uint64_t shards_made;   /* ever */
    uint64_t positions;     /* ever given: records, and gaps of puts that were abandoned */
    uint64_t retained;      /* that can be read */
    uint64_t dropped;       /* unread, oldest first */
    uint64_t damaged;
    uint64_t bytes;
    uint64_t unwritten;       /* on disk: positions that were given out and are not there yet; else 0 */
    uint64_t journal_bytes;   /* on disk, and how long it keeps records; else 0 */
    uint64_t retention_ms;
    uint64_t retention_bytes; /* of each shard; 0: any number */
    uint64_t splits;          /* by its load, on demand */
    uint64_t merges;
} ringway_stream_stats_t;

typedef struct ringway_topic_stats {
    uint64_t subscriptions;
    uint64_t listeners;
    uint64_t waiting;       /* to be handed on */
    uint64_t published;     /* totals, exact within 64 for each publisher that is open */
    uint64_t delivered;     /* to queues and streams */
    uint64_t retried;       /* put off since one had no room */
    uint64_t dead_lettered;
    uint64_t failed;        /* given up */
    uint64_t damaged;
} ringway_topic_stats_t;

/* Defaults. Threads: any. */
static inline void ringway_bus_config_init(ringway_bus_config_t *config) {
    const ringway_bus_config_t defaults = {sizeof(ringway_bus_config_t), NULL, NULL,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, NULL, 0, 0};
    *config = defaults;
}
static inline void ringway_channel_config_init(ringway_channel_config_t *config) {
    const ringway_channel_config_t defaults = {sizeof(ringway_channel_config_t), RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_reader_config_init(ringway_reader_config_t *config) {
    const ringway_reader_config_t defaults = {sizeof(ringway_reader_config_t), 0, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_queue_config_init(ringway_queue_config_t *config) {
    const ringway_queue_config_t defaults = {sizeof(ringway_queue_config_t), RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_settings_init(ringway_settings_t *settings) {
    const ringway_settings_t same = {sizeof(ringway_settings_t), RINGWAY_DEFAULT, RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0};
    *settings = same;
}
static inline void ringway_receiver_config_init(ringway_receiver_config_t *config) {
    const ringway_receiver_config_t defaults = {
        sizeof(ringway_receiver_config_t), RINGWAY_DEFAULT, 0, 0};
    *config = defaults;
}
static inline void ringway_outgoing_init(ringway_outgoing_t *outgoing) {
    const ringway_outgoing_t plain = {sizeof(ringway_outgoing_t), NULL, 0, NULL, NULL, NULL, NULL,
        0, RINGWAY_DEFAULT, NULL, 0, 0};
    *outgoing = plain;
}
static inline void ringway_move_config_init(ringway_move_config_t *config) {
    const ringway_move_config_t defaults = {
        sizeof(ringway_move_config_t), NULL, RINGWAY_DEFAULT, 0, 0};
    *config = defaults;
}
static inline void ringway_stream_config_init(ringway_stream_config_t *config) {
    const ringway_stream_config_t defaults = {sizeof(ringway_stream_config_t), RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, 0, 0, 0, 0, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_stream_producer_config_init(ringway_stream_producer_config_t *config) {
    const ringway_stream_producer_config_t defaults = {sizeof(ringway_stream_producer_config_t),
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, 0, 0};
    *config = defaults;
}
static inline void ringway_stream_reader_config_init(ringway_stream_reader_config_t *config) {
    const ringway_stream_reader_config_t defaults = {
        sizeof(ringway_stream_reader_config_t), NULL, NULL, RINGWAY_DEFAULT, {0, 0}, 0, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_change_config_init(ringway_change_config_t *config) {
    const ringway_change_config_t defaults = {sizeof(ringway_change_config_t), NULL, NULL,
        RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, 0, 0};
    *config = defaults;
}
static inline void ringway_topic_config_init(ringway_topic_config_t *config) {
    const ringway_topic_config_t defaults = {
        sizeof(ringway_topic_config_t), RINGWAY_DEFAULT, RINGWAY_DEFAULT, RINGWAY_DEFAULT, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_subscription_config_init(ringway_subscription_config_t *config) {
    const ringway_subscription_config_t defaults = {
        sizeof(ringway_subscription_config_t), NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0};
    *config = defaults;
}
static inline void ringway_listener_config_init(ringway_listener_config_t *config) {
    const ringway_listener_config_t defaults = {
        sizeof(ringway_listener_config_t), NULL, 0, 0, 0, 0};
    *config = defaults;
}

/* The attribute of a received message that is called `name`; NULL: none is. Threads: any. Lifetime: as
   that of parts. */
static inline const ringway_attribute_t *ringway_message_attribute(
    const ringway_message_parts_t *parts, const char *name) {
    for (size_t i = 0; i < parts->attribute_count; i++) {
        if (strcmp(parts->attributes[i].name, name) == 0) {
            return &parts->attributes[i];
        }
    }
    return NULL;
}

/* ---- Versions and errors ----------------------------------------------------------------------- */

/* The version of the library in use: of its API, ABI or FORMAT (major in the upper 16 bits, minor in the
   lower). Threads: any. Returns: 0 for what is none of enum ringway_version_of. */
uint32_t ringway_version(int32_t version_of);

/* A status by name and in a few words: "RINGWAY_E_NOT_FOUND: there is none of that name". Threads: any.
   Lifetime: for ever. Returns: RINGWAY_E_OTHER and its words for a number that is none; never NULL. */
const char *ringway_status_text(int32_t status);

/* What the last call of this thread that returned < 0 (or STALLED, OVER_LIMIT, POOL_EXHAUSTED,
   DEDUP_FULL or THROTTLED) was about, and what to do next. Threads: each has its own. Lifetime: until its
   next such call. Returns: "" before the first; never NULL. */
const char *ringway_last_error(void);

/* Closes a handle of any kind; NULL is fine. A receiver's messages stay in flight, a worker's shards go
   to the others, a loan goes back, an open view ends. Threads: any, if no other one uses it. Returns: OK;
   E_HANDLE for one that is closed already, and nothing happened. */
int32_t ringway_close(void *handle);

/* ---- Buses ------------------------------------------------------------------------------------- */

/* Opens the bus `name`, or creates it (config->how). config may be NULL. Threads: any. Lifetime: until
   ringway_close of *bus and of all that came from it. Returns: OK; E_NAME, E_OPTION, E_NOT_FOUND,
   E_EXISTS, E_FOREIGN, E_FORMAT, E_DAMAGED, E_OTHER_BOOT, E_NO_SPACE, E_PERMISSION, E_TOO_MANY, E_IO. */
RINGWAY_MUST_CHECK int32_t ringway_bus_open(
    const char *name, const ringway_bus_config_t *config, ringway_bus_t **bus);

/* Lists the objects of a bus, by name, and its topics behind them: up to `capacity` into `objects`
   (may be NULL with 0), all of them counted in *count. Threads: any. Lifetime: copied. Returns: OK;
   E_FORKED, E_IO. */
RINGWAY_MUST_CHECK int32_t ringway_bus_objects(
    const ringway_bus_t *bus, ringway_object_info_t *objects, size_t capacity, size_t *count);

/* Removes the topic of that name where kind is RINGWAY_TOPIC, else (0) what else is called so. Who has it
   open gets E_REMOVED; its memory goes with the last of them. Threads: any. Returns: OK; E_NOT_FOUND,
   E_PERMISSION, E_FORKED, E_IO. */
RINGWAY_MUST_CHECK int32_t ringway_bus_remove(
    const ringway_bus_t *bus, const char *name, int32_t kind);

/* Says which topics may deliver to a queue, for every process from the next message on, until the machine is
   restarted: `policy` is JSON as in SQS, sqs:SendMessage by aws:SourceArn, the topic being
   "arn:aws:sns:BUS:000000000000:TOPIC", "local" for the bus of the queue; NULL: all may, as if nothing was
   ever said. What a topic may not deliver goes to the dead-letter queue of its subscription, or is counted as
   failed. Threads: any. Lifetime: copied. Returns: OK; E_POLICY (ringway_last_error says what is wrong with
   it), E_NOT_FOUND, E_FOREIGN (no queue is called so), E_NAME, E_PERMISSION, E_FORKED, E_IO. */
RINGWAY_MUST_CHECK int32_t ringway_bus_set_queue_policy(
    const ringway_bus_t *bus, const char *queue, const char *policy);

/* Copies the policy of a queue into `text` of `capacity` bytes (NULL with 0), with a 0 behind it; its length
   without that to *len, 0 where it has none. Threads: any. Lifetime: copied. Returns: OK; E_BUFFER_TOO_SMALL (*len + 1 bytes
   are needed); E_NOT_FOUND, E_FOREIGN, E_NAME, E_PERMISSION, E_FORKED, E_IO. */
RINGWAY_MUST_CHECK int32_t ringway_bus_queue_policy(
    const ringway_bus_t *bus, const char *queue, char *text, size_t capacity, size_t *len);

/* Removes the whole bus `name` with its journals; root and journal_root are those of config, which may be
   NULL. Refused while anybody lives on it, or a journal lies elsewhere, unless force is not 0 (that
   journal stays). Threads: any. Returns: OK; E_NOT_FOUND, E_IN_USE, E_MISMATCH, E_PERMISSION, E_IO. */
RINGWAY_MUST_CHECK int32_t ringway_bus_destroy(
    const char *name, const ringway_bus_config_t *config, int32_t force);

/* ---- Channels ---------------------------------------------------------------------------------- */

/* Opens or creates a channel. config may be NULL. Threads: any. Lifetime: until ringway_close. Returns:
   as ringway_bus_open; E_MISMATCH, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_channel_open(const ringway_bus_t *bus, const char *name,
    const ringway_channel_config_t *config, ringway_channel_t **channel);

/* Positions and counters, each current by itself. size: sizeof *stats. Threads: any. Returns: OK;
   E_STRUCT_SIZE. */
RINGWAY_MUST_CHECK int32_t ringway_channel_stats(
    const ringway_channel_t *channel, ringway_channel_stats_t *stats, size_t size);

/* Becomes a producer. Threads: any. Lifetime: until ringway_close. Returns: OK; E_BUSY where the channel
   is exclusive and its producer lives; E_REMOVED, E_UNLINKED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_producer_open(
    const ringway_channel_t *channel, ringway_producer_t **producer);

/* Sends a record; its position to *position (may be NULL). Waits for room up to timeout_ns. Without a
   wait: no system call unless a reader sleeps; no allocation while the body fits into a slot. Threads:
   one. Lifetime: the body is copied. Returns: OK; FULL, STALLED, POOL_EXHAUSTED; E_TOO_LARGE,
   E_NO_SPACE, E_REMOVED, E_UNLINKED, E_STALE, E_FORKED, E_DAMAGED, E_POOL. */
RINGWAY_MUST_CHECK int32_t ringway_producer_send(ringway_producer_t *producer, const void *body,
    size_t len, int64_t timeout_ns, uint64_t *position);

/* Sends as many of `bodies` as there is room for, in order, with one wake; how many to *sent. Threads:
   one. Lifetime: copied. Returns: OK if at least one was sent or count is 0; else as
   ringway_producer_send without a wait. */
RINGWAY_MUST_CHECK int32_t ringway_producer_send_batch(
    ringway_producer_t *producer, const ringway_slice_t *bodies, size_t count, size_t *sent);

/* Becomes a reader. config may be NULL. Threads: any. Lifetime: until ringway_close; views that are
   pinned stay. Returns: OK; E_TOO_MANY, E_NOT_RELIABLE, E_REMOVED, E_UNLINKED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_reader_open(const ringway_channel_t *channel,
    const ringway_reader_config_t *config, ringway_reader_t **reader);

/* Copies the next record into `buffer`, waiting for it up to timeout_ns. Threads: one. Lifetime:
   copied. Returns: OK; EMPTY, TIMEOUT; LAGGED (lossy readers: record->missed were lost, reading goes on
   at record->position); E_BUFFER_TOO_SMALL (the record stays next, record->len bytes are needed);
   E_REMOVED, E_UNLINKED, E_STALE, E_FORKED, E_DAMAGED, E_POOL. */
RINGWAY_MUST_CHECK int32_t ringway_reader_read(ringway_reader_t *reader, void *buffer,
    size_t capacity, int64_t timeout_ns, ringway_record_t *record);

/* Copies up to `max` records, as soon as there is one, into memory of the reader; how many to *count.
   Threads: one. Lifetime: bodies until the next call on the reader. Returns: as ringway_reader_read,
   but for E_BUFFER_TOO_SMALL (with LAGGED entries[0].record tells). */
RINGWAY_MUST_CHECK int32_t ringway_reader_read_batch(ringway_reader_t *reader, size_t max,
    int64_t timeout_ns, ringway_entry_t *entries, size_t *count);

/* Shows the next record where it lies, without a copy. Until ringway_release other calls on the
   reader return E_BUSY_HANDLE; on a reliable reader it holds producers back like a record not yet read.
   Among processes that keep the rules the bytes don't change; a hostile one can. Threads: one.
   Lifetime: *data until the release. Returns: as ringway_reader_read; E_TOO_MANY. */
RINGWAY_MUST_CHECK int32_t ringway_reader_view(ringway_reader_t *reader, int64_t timeout_ns,
    ringway_record_t *record, const void **data);

/* The same as a handle of its own, which may be kept while the reader goes on (14 at a time, each costs
   the ring one slot). Threads: one. Lifetime: *data until ringway_close of *view. Returns: as
   ringway_reader_view. */
RINGWAY_MUST_CHECK int32_t ringway_reader_pin(ringway_reader_t *reader, int64_t timeout_ns,
    ringway_view_t **view, ringway_record_t *record, const void **data);

/* ---- Queues ------------------------------------------------------------------------------------ */

/* Opens or creates a queue. config may be NULL. Of a durable one whoever comes first after a restart
   reads the journal, and the others wait. Threads: any. Lifetime: until ringway_close; leases outlive
   it. Returns: as ringway_bus_open; E_MISMATCH, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_open(const ringway_bus_t *bus, const char *name,
    const ringway_queue_config_t *config, ringway_queue_t **queue);

/* Counts what is there: a look at each slot, about 1 ms per 100,000. size: sizeof *stats. Threads: any.
   Returns: OK; E_STRUCT_SIZE. */
RINGWAY_MUST_CHECK int32_t ringway_queue_stats(
    const ringway_queue_t *queue, ringway_queue_stats_t *stats, size_t size);

/* The settings as they are now. size: sizeof *settings. Threads: any. Returns: OK; E_STRUCT_SIZE. */
RINGWAY_MUST_CHECK int32_t ringway_queue_settings(
    const ringway_queue_t *queue, ringway_settings_t *settings, size_t size);

/* Changes what is given, for every process at once; all is checked before anything is changed. Threads:
   any. Returns: OK; E_OPTION, E_REDRIVE, E_TOO_MANY, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_set(
    const ringway_queue_t *queue, const ringway_settings_t *settings);

/* Removes every message that was sent before the call; how many to *purged (may be NULL). Threads: any.
   Returns: OK. */
int32_t ringway_queue_purge(const ringway_queue_t *queue, uint64_t *purged);

/* Waits until everything that was sent to a queue and deleted there is on its disk, if it has one: what
   RINGWAY_ASYNC does not wait for. Threads: any. Returns: OK; E_NOT_ON_DISK, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_flush(const ringway_queue_t *queue);

/* Moves the messages of a queue, visible and parked ones, to another one or back to where they came
   from, for up to timeout_ns; goes on with such a task, cancels it, or looks at it (config->what). How
   it stands to *status (may be NULL; size: sizeof *status). config may be NULL. A task has one runner;
   when that leaves it or dies, anybody may go on. Threads: any. Returns: OK, the task is completed (or
   cancelled, or looked at); TIMEOUT, it stands, moved so far; E_NOT_FOUND where there is none, or no
   such destination; E_BUSY, another one runs it; E_REDRIVE, E_TOO_MANY, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_move(const ringway_queue_t *queue,
    const ringway_move_config_t *config, int64_t timeout_ns, ringway_move_status_t *status,
    size_t size);

/* Lists the messages that are not offered any more, by position: up to `capacity` into `parked` (may be NULL
   with 0), all of them counted in *count. Threads: any. Lifetime: copied. Returns: OK; E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_parked(const ringway_queue_t *queue,
    ringway_parked_t *parked, size_t capacity, size_t *count);

/* Copies the body of the parked message at `position` into `buffer`, its length to *len, and deletes it behind
   that where `remove` is not 0. To delete alone: NULL, 0, NULL. To put it back into the queue: read it, send
   it, then remove it. Threads: any. Lifetime: copied. Returns: OK; E_NOT_FOUND where none is parked there (any more);
   E_BUFFER_TOO_SMALL (*len bytes are needed, and it stays), E_DURABILITY_UNKNOWN (removed), E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_read_parked(const ringway_queue_t *queue,
    uint64_t position, int32_t remove, void *buffer, size_t capacity, size_t *len);

/* Deletes the message of a receipt, from whichever process it came. Twice is no error. Never blocks, but
   for the disk of a durable queue. Threads: any. Returns: OK; E_STALE_RECEIPT (received again: it
   stays), E_OTHER_QUEUE, E_RECEIPT, E_DURABILITY_UNKNOWN, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_delete(
    const ringway_queue_t *queue, const ringway_receipt_t *receipt);

/* Keeps a message invisible for visibility_ms from now (0 to 43,200,000; 0 makes it visible). Its
   holder is this process by then. Threads: any. Returns: OK; E_STALE_RECEIPT, E_NOT_IN_FLIGHT, E_GONE,
   E_OTHER_QUEUE, E_RECEIPT, E_OPTION, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_queue_extend(
    const ringway_queue_t *queue, const ringway_receipt_t *receipt, uint64_t visibility_ms);

/* Gives a message back: visible after delay_ms (0 to 900,000). Threads: any. Returns: as
   ringway_queue_extend. */
RINGWAY_MUST_CHECK int32_t ringway_queue_nack(
    const ringway_queue_t *queue, const ringway_receipt_t *receipt, uint64_t delay_ms);

/* A receipt as text, "queue-position-receives", into `text` of `capacity` bytes (RINGWAY_RECEIPT_TEXT
   always do), and back. Threads: any. Returns: OK; E_BUFFER_TOO_SMALL, E_RECEIPT. */
RINGWAY_MUST_CHECK int32_t ringway_receipt_format(
    const ringway_receipt_t *receipt, char *text, size_t capacity);
RINGWAY_MUST_CHECK int32_t ringway_receipt_parse(const char *text, ringway_receipt_t *receipt);

/* ---- Sending to queues ------------------------------------------------------------------------- */

/* Becomes a sender. Threads: any. Lifetime: until ringway_close. Returns: OK; E_REMOVED, E_UNLINKED,
   E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_sender_open(
    const ringway_queue_t *queue, ringway_sender_t **sender);

/* Sends a message; its position to *position (may be NULL). Waits for room up to timeout_ns. On 0 it
   survives the death of this and every process, and in a durable queue, which waits for the disk, that
   of the machine. Threads: one. Lifetime: the body is copied. Returns: OK; FULL, OVER_LIMIT,
   POOL_EXHAUSTED; E_TOO_LARGE, E_MISSING_GROUP (FIFO: ringway_sender_send_message), E_NOT_ON_DISK,
   E_DURABILITY_UNKNOWN, E_NO_SPACE, E_GROWTH, E_REMOVED, E_UNLINKED, E_STALE, E_FORKED, E_DAMAGED,
   E_POOL. */
RINGWAY_MUST_CHECK int32_t ringway_sender_send(ringway_sender_t *sender, const void *body,
    size_t len, int64_t timeout_ns, uint64_t *position);

/* Sends as many of `bodies` as there is room for, in order, with one wake; how many to *sent. Threads:
   one. Lifetime: copied. Returns: OK if at least one was sent or count is 0; else as
   ringway_sender_send without a wait. */
RINGWAY_MUST_CHECK int32_t ringway_sender_send_batch(
    ringway_sender_t *sender, const ringway_slice_t *bodies, size_t count, size_t *sent);

/* Sends `count` messages with what is said about them, in order, with one wake; what became of each to
   sent[i].status: OK (a duplicate is no error: sent[i].duplicate), what ringway_sender_send returns
   without a wait, DEDUP_FULL, E_ID, E_ATTRIBUTE, E_OPTION, E_DELAY_IN_FIFO, E_MISSING_DEDUP_ID,
   E_NO_DEDUP. One that can't be sent for a reason of its own does not keep the others; behind one that
   finds no room all are refused. Each has the `size` of the first. Threads: one. Lifetime: copied.
   Returns: OK when the outcomes are written, whatever they are; else nothing was sent. */
RINGWAY_MUST_CHECK int32_t ringway_sender_send_messages(ringway_sender_t *sender,
    const ringway_outgoing_t *messages, size_t count, ringway_sent_t *sent);

/* The same with one message, whose outcome is returned. `sent` may be NULL. */
RINGWAY_MUST_CHECK static inline int32_t ringway_sender_send_message(
    ringway_sender_t *sender, const ringway_outgoing_t *message, ringway_sent_t *sent) {
    ringway_sent_t one = {0, 0, 0};
    const int32_t status = ringway_sender_send_messages(sender, message, 1, &one);
    if (status == RINGWAY_OK && one.status == RINGWAY_OK && sent != NULL) {
        *sent = one;
    }
    return status != RINGWAY_OK ? status : one.status;
}

/* ---- Loans ------------------------------------------------------------------------------------- */

/* Lends a producer (of a channel) or a sender `len` bytes of the payload pool, aligned to 64, to be filled at
   leisure: they hold no place in any order and block nobody. They are not zero. Threads: one. Lifetime:
   *data until the loan is sent or closed. Returns: OK; POOL_EXHAUSTED; E_TOO_LARGE, E_NO_SPACE, E_POOL,
   E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_loan_open(
    void *producer_sender, size_t len, ringway_loan_t **loan, void **data);

/* Sends the first `len` bytes of a loan without copying them; their position to *position (may be NULL). On 0
   the loan is closed; else it stays yours, `len` bytes long. Threads: one. Returns: as ringway_producer_send
   and ringway_sender_send without a wait; E_ARGUMENT when len is more than was lent; E_POOL for a loan of
   another bus. Behind E_DURABILITY_UNKNOWN it is sent: close it, and write to its bytes no more. */
RINGWAY_MUST_CHECK int32_t ringway_loan_send(
    void *producer_sender, ringway_loan_t *loan, size_t len, uint64_t *position);

/* ---- Receiving from queues --------------------------------------------------------------------- */

/* Becomes a receiver. config may be NULL. Threads: any. Lifetime: until ringway_close; what it received
   stays in flight. Returns: OK; E_OPTION, E_REMOVED, E_UNLINKED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_open(const ringway_queue_t *queue,
    const ringway_receiver_config_t *config, ringway_receiver_t **receiver);

/* Receives a message and copies its body into `buffer`, waiting for it up to timeout_ns (or
   RINGWAY_QUEUE_WAIT). It is invisible to others until it is deleted or its visibility time-out passes.
   Threads: one. Lifetime: copied. Returns: OK; EMPTY, TIMEOUT, OVER_LIMIT; E_BUFFER_TOO_SMALL (it stays
   visible, received->len bytes are needed); E_REMOVED, E_UNLINKED, E_STALE, E_FORKED, E_POOL. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_receive(ringway_receiver_t *receiver, void *buffer,
    size_t capacity, int64_t timeout_ns, ringway_received_t *received);

/* The same and deletes it in one step: at most once. Threads: one. Lifetime: copied. Returns: as
   ringway_receiver_receive. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_consume(ringway_receiver_t *receiver, void *buffer,
    size_t capacity, int64_t timeout_ns, ringway_received_t *received);

/* Receives up to `max` messages, as soon as there is one, into memory of the receiver; how many to
   *count. Threads: one. Lifetime: bodies until the next call on the receiver. Returns: as
   ringway_receiver_receive, but for E_BUFFER_TOO_SMALL. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_receive_batch(ringway_receiver_t *receiver, size_t max,
    int64_t timeout_ns, ringway_delivery_t *deliveries, size_t *count);

/* Receives a message whole, with what its sender said about it, into `message`. Threads: one. Lifetime:
   until `message` is used again or closed. Returns: as ringway_receiver_receive, but for
   E_BUFFER_TOO_SMALL. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_receive_message(ringway_receiver_t *receiver,
    ringway_message_t *message, int64_t timeout_ns, ringway_received_t *received);

/* Receives a message and shows its body where it lies. The lease decides who may delete it, and ends as
   ever; the bytes stay until ringway_release, until when other calls on the receiver return
   E_BUSY_HANDLE (settle by the queue). Threads: one. Lifetime: the body until the release. Returns: as
   ringway_receiver_receive, but for E_BUFFER_TOO_SMALL; E_TOO_MANY. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_view(
    ringway_receiver_t *receiver, int64_t timeout_ns, ringway_delivery_t *delivery);

/* As ringway_queue_delete, and faster for what was received here. Threads: one. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_delete(
    ringway_receiver_t *receiver, const ringway_receipt_t *receipt);

/* Deletes the messages of `count` receipts; the status of each to statuses[i] (may be NULL), how many
   could not be to *failed (may be NULL). Threads: one. Returns: OK when all are deleted or gone, else
   the status of the last that is not. */
RINGWAY_MUST_CHECK int32_t ringway_receiver_delete_batch(ringway_receiver_t *receiver,
    const ringway_receipt_t *receipts, size_t count, int32_t *statuses, size_t *failed);

/* Memory for messages that are received or heard. Threads: any. Lifetime: until ringway_close. */
RINGWAY_MUST_CHECK int32_t ringway_message_open(ringway_message_t **message);

/* What lies in it. size: sizeof *parts. Threads: one. Lifetime: see the struct. Returns: OK;
   E_STRUCT_SIZE. */
RINGWAY_MUST_CHECK int32_t ringway_message_parts(
    const ringway_message_t *message, ringway_message_parts_t *parts, size_t size);

/* ---- Streams ----------------------------------------------------------------------------------- */

/* Opens or creates a stream. config may be NULL. Threads: any. Lifetime: until ringway_close. Returns: as
   ringway_bus_open; E_MISMATCH, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_open(const ringway_bus_t *bus, const char *name,
    const ringway_stream_config_t *config, ringway_stream_t **stream);

/* Counts, each current by itself. size: sizeof *stats. Threads: any. Returns: OK; E_STRUCT_SIZE,
   E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_stats(
    const ringway_stream_t *stream, ringway_stream_stats_t *stats, size_t size);

/* Lists every shard that was ever made, by number: up to `capacity` into `shards` (may be NULL with 0),
   all of them counted in *count. Threads: any. Lifetime: copied. Returns: OK; E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_shards(const ringway_stream_t *stream,
    ringway_shard_info_t *shards, size_t capacity, size_t *count);

/* Changes a stream while it is used: its shards, how long it keeps records, who is registered
   (config->what, enum ringway_change); what came of it to *changed (may be NULL). Each change is whole, whoever
   dies: others go on with it. Producers and readers follow by themselves, and the order of each key is kept.
   Takes as long as making a file, SCALE for each shard; blocks for the disk of a durable stream. Threads: any.
   Returns: OK; E_NOT_FOUND (no such shard, consumer or group), E_OPTION (a shard that is closed, two that are
   not adjacent, nothing left on one side, a number or retention out of bounds, no durable stream), E_NAME,
   E_EXISTS, E_NOT_RELIABLE (a consumer that holds puts back where the oldest are dropped), E_TOO_MANY (of a
   stream's life: 2,048 shards, 32 groups and consumers; 20 consumers at a time), E_BUSY, E_NO_SPACE, E_IO,
   E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_change(const ringway_stream_t *stream,
    const ringway_change_config_t *config, ringway_changed_t *changed);

/* Lists the registered consumers: up to `capacity` into `consumers` (may be NULL with 0), all of them counted
   in *count. Threads: any. Lifetime: copied. Returns: OK; E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_consumers(const ringway_stream_t *stream,
    ringway_consumer_info_t *consumers, size_t capacity, size_t *count);

/* Becomes a producer. config may be NULL. Threads: any. Lifetime: until ringway_close, which puts what was
   gathered and there is room for. Returns: OK; E_OPTION, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_producer_open(const ringway_stream_t *stream,
    const ringway_stream_producer_config_t *config, ringway_stream_producer_t **producer);

/* Puts a record; where it stands to *outcome (may be NULL). Waits for room in its shard up to
   timeout_ns. Without a wait: no system call unless somebody sleeps. On 0 it survives the death of
   this and every process, and in a durable stream that of the machine. A producer that aggregates gathers
   it in its own memory (outcome->sequence_number has RINGWAY_NONE twice) and puts what it has when a record is
   full or has lingered, which each put looks for, or by ringway_stream_flush: only then it survives anything,
   and is read. Threads: one. Lifetime: copied. Returns: OK; FULL, THROTTLED, POOL_EXHAUSTED; E_ID (the key),
   E_TOO_LARGE, E_BUSY, E_NOT_ON_DISK, E_DURABILITY_UNKNOWN, E_NO_SPACE, E_REMOVED, E_FORKED, E_DAMAGED,
   E_POOL. Of a producer that aggregates this may be about what it gathered before, and has still: this record
   it did not take then. */
RINGWAY_MUST_CHECK int32_t ringway_stream_put(ringway_stream_producer_t *producer,
    const ringway_put_t *record, int64_t timeout_ns, ringway_put_outcome_t *outcome);

/* Puts `count` records in order; what became of each to outcomes[i].status. One that fails does not keep
   the others from being put, except those behind it that go to the same shard if that is full: the order
   of each key is kept. They wait for room together. Threads: one. Lifetime: copied. Returns: OK when the
   outcomes are written, whatever they are; else nothing was put. */
RINGWAY_MUST_CHECK int32_t ringway_stream_put_batch(ringway_stream_producer_t *producer,
    const ringway_put_t *records, size_t count, int64_t timeout_ns,
    ringway_put_outcome_t *outcomes);

/* Puts what a producer that aggregates has gathered, waiting for room up to timeout_ns, and waits until everything
   that anybody put to the stream is on its disk, if it has one: what RINGWAY_ASYNC does not wait for. What can't be
   put now is put by the next put or flush. Blocks for the disk. Threads: one. Returns: OK, and all is done; else as
   ringway_stream_put. */
RINGWAY_MUST_CHECK int32_t ringway_stream_flush(
    ringway_stream_producer_t *producer, int64_t timeout_ns);

/* Becomes a reader: alone, in a group, or as a registered consumer (config->group, ->consumer). config may be
   NULL. Threads: any. Lifetime: until ringway_close. Returns: OK; E_NOT_FOUND (the shard, the consumer), E_OPTION (an iterator that needs a
   shard, is of another one, or is none for a group; what a consumer doesn't choose), E_NAME, E_BUSY (somebody
   reads as the consumer, and this is not to take over), E_TOO_MANY, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_reader_open(const ringway_stream_t *stream,
    const ringway_stream_reader_config_t *config, ringway_stream_reader_t **reader);

/* Copies up to `max` records, as soon as there is one, into memory of the reader; how many to *count.
   Those of a key come in the order they were put in, also across a split. A worker is given records of
   its shards at least once; one that is busy for longer than the lease time-out calls this with 0
   meanwhile. Threads: one. Lifetime: pointers until the next call on the reader. Returns: OK; EMPTY,
   TIMEOUT, END, THROTTLED; LAGGED (records[0].missed were lost, reading goes on); E_STALE (a worker
   that was taken for dead, or whose group is gone; a consumer that was deregistered, evicted, or taken over:
   open a new one), E_REMOVED, E_FORKED, E_DAMAGED, E_POOL. */
RINGWAY_MUST_CHECK int32_t ringway_stream_read(ringway_stream_reader_t *reader, size_t max,
    int64_t timeout_ns, ringway_stream_record_t *records, size_t *count);

/* Says that a worker is done with the record of that number and all before it in its shard; NULL: with
   all that it was given. What was not checkpointed is read again by whoever reads the shard next.
   Threads: one. Returns: OK; E_FENCED (a shard passed on since: drop what was done of it; the others
   are checkpointed), E_NO_LEASE, E_OUT_OF_RANGE; E_OPTION for a reader that is in no group;
   E_DURABILITY_UNKNOWN, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_stream_checkpoint(
    ringway_stream_reader_t *reader, const ringway_sequence_number_t *sequence_number);

/* ---- Topics ------------------------------------------------------------------------------------ */

/* Opens or creates a topic. config may be NULL. Threads: any. Lifetime: until ringway_close. Returns: as
   ringway_bus_open; E_MISMATCH, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_topic_open(const ringway_bus_t *bus, const char *name,
    const ringway_topic_config_t *config, ringway_topic_t **topic);

/* Counts, each current by itself. size: sizeof *stats. Threads: any. Returns: OK; E_STRUCT_SIZE,
   E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_topic_stats(
    const ringway_topic_t *topic, ringway_topic_stats_t *stats, size_t size);

/* Subscribes a queue or a stream: every message whose publish begins when this has returned, and that the
   policy wants, is delivered to it, behind what it was to get of the archive; the subscription's number to *id
   (may be NULL). It stays until it is ended, whoever dies. Threads: any. Lifetime: copied. Returns: OK;
   E_NOT_FOUND (a queue or stream), E_POLICY (of filter or delivery), E_OPTION (a replay that is none, or of a
   topic without an archive), E_TOO_LARGE, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_topic_subscribe(const ringway_topic_t *topic,
    const ringway_subscription_config_t *config, uint64_t *id);

/* Ends a subscription. What was published before may still be delivered. Threads: any. Returns: OK;
   E_NOT_FOUND, E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_topic_unsubscribe(const ringway_topic_t *topic, uint64_t id);

/* Lists the subscriptions, by number, with what became of their messages: up to `capacity` into
   `subscriptions` (may be NULL with 0), all of them counted in *count. Threads: any. Lifetime: copied. Returns:
   OK; E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_topic_subscriptions(const ringway_topic_t *topic,
    ringway_subscription_t *subscriptions, size_t capacity, size_t *count);

/* Becomes a publisher. Reads the subscriptions there are, 2 us each. Threads: any. Lifetime: until
   ringway_close. Returns: OK; E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_publisher_open(
    const ringway_topic_t *topic, ringway_publisher_t **publisher);

/* Publishes `count` messages in order and hands them on, each waiting up to timeout_ns for a listener that is
   to miss nothing; what became of each to published[i].status: OK (a repeat to a FIFO topic is no error:
   published[i].duplicate), FULL, STALLED (by such a listener), OVER_LIMIT, POOL_EXHAUSTED, E_MISSING_GROUP,
   E_ID, E_ATTRIBUTE, E_OPTION, E_TOO_LARGE, E_NO_SPACE, E_REMOVED. Each has the `size` of the first. On 0 it
   survives this process, and mostly it is delivered by then. Threads: one. Lifetime: copied. Returns: OK when
   the outcomes are written, whatever they are; else nothing was published. */
RINGWAY_MUST_CHECK int32_t ringway_publisher_publish_batch(ringway_publisher_t *publisher,
    const ringway_outgoing_t *messages, size_t count, int64_t timeout_ns,
    ringway_published_t *published);

/* The same with one message, whose outcome is returned. `published` may be NULL. */
RINGWAY_MUST_CHECK static inline int32_t ringway_publisher_publish(ringway_publisher_t *publisher,
    const ringway_outgoing_t *message, int64_t timeout_ns, ringway_published_t *published) {
    ringway_published_t one = {{0, 0}, 0, 0};
    const int32_t status =
        ringway_publisher_publish_batch(publisher, message, 1, timeout_ns, &one);
    if (status == RINGWAY_OK && one.status == RINGWAY_OK && published != NULL) {
        *published = one;
    }
    return status != RINGWAY_OK ? status : one.status;
}

/* Becomes a listener: hears every message whose publish begins when this has returned, and that its policy
   wants. config may be NULL. Threads: any. Lifetime: until ringway_close. Returns: OK; E_POLICY, E_TOO_MANY,
   E_REMOVED, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_listener_open(const ringway_topic_t *topic,
    const ringway_listener_config_t *config, ringway_listener_t **listener);

/* Hears the next message, into `message`, waiting for it up to timeout_ns. Threads: one. Lifetime: until
   `message` is used again or closed. Returns: OK; EMPTY, TIMEOUT; LAGGED (*missed, may be NULL, positions
   were lost, hearing goes on); E_STALE (evicted, or taken for dead), E_REMOVED, E_UNLINKED, E_FORKED,
   E_POOL. */
RINGWAY_MUST_CHECK int32_t ringway_listener_hear(ringway_listener_t *listener,
    ringway_message_t *message, int64_t timeout_ns, uint64_t *missed);

/* ---- Waiting, pinning -------------------------------------------------------------------------- */

/* Waits up to timeout_ns until one of `count` readers (of channels), receivers and listeners has something; its
   index, the lowest where several have, to *ready. Sleeps on all at once; another receiver may be faster then, and
   a listener may not want what there is. Threads: one for each of them. Returns: OK; EMPTY, TIMEOUT;
   E_BUSY_HANDLE for one given twice; E_REMOVED, E_UNLINKED, E_STALE, E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_wait_any(
    void *const *readers_receivers_listeners, size_t count, int64_t timeout_ns, size_t *ready);

/* A descriptor for poll, epoll or an event loop: readable when the reader (of a channel), receiver or listener has
   something. Then read until EMPTY, which arms it again. Starts a small thread; the second call returns the same.
   Threads: one. Lifetime: until the handle is closed; don't close it yourself. Returns: OK; E_IO, E_STALE,
   E_FORKED. */
RINGWAY_MUST_CHECK int32_t ringway_poll_fd(void *reader_receiver_listener, int32_t *fd);

/* Ends the view of ringway_reader_view or ringway_receiver_view; a message stays in flight. Threads: one.
   Returns: OK, also if there is none. */
int32_t ringway_release(void *reader_receiver);

/* Pins the calling thread to a core. Threads: affects its own; children inherit it. Returns: OK;
   E_OPTION where this process may not run there. */
RINGWAY_MUST_CHECK int32_t ringway_pin_thread(uint32_t core);

#ifdef __cplusplus
}
#endif

#endif /* RINGWAY_H */
