//! One side of an Aeron round: a client, a publication out, a subscription in.
//!
//! The handler that Aeron calls for each message adds its number to a [`Taken`]
//! that the side owns; polling and reading it happen on the same thread, one
//! after the other.

use super::api::{Api, BufferClaim, Handle, Handler};
use super::driver;
use ringway_measure::meet::Seat;
use ringway_measure::{Consume, Ping, Plan, Produce, Result, Scenario};
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

const CHANNEL: &CStr = c"aeron:ipc";

/// Streams from side 0 and from side 1.
const STREAMS: [i32; 2] = [1001, 1002];

/// Fragments a receiver takes in one poll, as Aeron's own samples do by tens.
const FRAGMENTS: usize = 256;

/// How a side publishes.
#[derive(Clone, Copy)]
pub(super) struct Publishing {
    pub(super) exclusive: bool,
    pub(super) claims: bool,
}

/// What the handler has been given so far.
struct Taken {
    count: u64,
    sum: u64,
    last: u64,
    /// Where messages are copied to, in the copy scenario.
    private: Option<Vec<u8>>,
}

pub(super) struct End {
    how: Publishing,
    publication: Handle,
    subscription: Handle,
    /// Set where messages are larger than a frame.
    assembler: Handle,
    taken: *mut Taken,
    buffer: Vec<u8>,
    client: Handle,
    context: Handle,
    api: Api,
}

impl End {
    /// Connects to the driver in `dir`, and waits until the other side is there.
    pub(super) fn open(plan: &Plan, how: Publishing, dir: &Path, seat: &Seat<'_>) -> Result<End> {
        let private = (plan.scenario == Scenario::Copy).then(|| vec![0u8; plan.size]);
        let taken = Box::into_raw(Box::new(Taken {
            count: 0,
            sum: 0,
            last: 0,
            private,
        }));
        let null = ptr::null_mut();
        let mut end = End {
            how,
            publication: null,
            subscription: null,
            assembler: null,
            taken,
            buffer: vec![1u8; plan.size],
            client: null,
            context: null,
            api: Api::open()?,
        };
        end.connect(dir)?;
        end.publication = end.add_publication(STREAMS[seat.index()])?;
        end.subscription = end.add_subscription(STREAMS[1 - seat.index()])?;
        if plan.size > driver::MTU - 32 {
            // SAFETY: the handler and its argument, owned by `end`, outlive the assembler.
            let rc =
                unsafe { (end.api.assembler_create)(&mut end.assembler, on_message, taken.cast()) };
            end.api.ok(rc, "create an assembler")?;
        }
        while !end.is_connected() {
            std::thread::yield_now();
        }
        Ok(end)
    }

    fn connect(&mut self, dir: &Path) -> Result<()> {
        let dir = CString::new(dir.as_os_str().as_bytes())?;
        let api = &self.api;
        // SAFETY: in the order that aeronc.h asks for; the string is copied by
        // the context, and both handles are kept until they are closed in drop.
        unsafe {
            api.ok((api.context_init)(&mut self.context), "make a context")?;
            api.ok(
                (api.context_set_dir)(self.context, dir.as_ptr()),
                "set its directory",
            )?;
            api.ok(
                (api.context_set_pre_touch)(self.context, true),
                "ask for touched memory",
            )?;
            api.ok(
                (api.init)(&mut self.client, self.context),
                "connect to the media driver",
            )?;
            api.ok((api.start)(self.client), "start the client")?;
        }
        Ok(())
    }

    fn add_publication(&self, stream: i32) -> Result<Handle> {
        let api = &self.api;
        let (add, poll) = if self.how.exclusive {
            (api.add_exclusive, api.add_exclusive_poll)
        } else {
            (api.add_shared, api.add_shared_poll)
        };
        let (mut pending, mut publication) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the client is started; the poll frees `pending` once it is done.
        unsafe {
            api.ok(
                add(&mut pending, self.client, CHANNEL.as_ptr(), stream),
                "add a publication",
            )?;
            while api.ok(poll(&mut publication, pending), "add a publication")? == 0 {
                std::thread::yield_now();
            }
        }
        Ok(publication)
    }

    fn add_subscription(&self, stream: i32) -> Result<Handle> {
        let api = &self.api;
        let (mut pending, mut subscription) = (ptr::null_mut(), ptr::null_mut());
        let null = ptr::null_mut();
        // SAFETY: as for publications; no image handlers are given.
        unsafe {
            let rc = (api.add_subscription)(
                &mut pending,
                self.client,
                CHANNEL.as_ptr(),
                stream,
                null,
                null,
                null,
                null,
            );
            api.ok(rc, "add a subscription")?;
            while api.ok(
                (api.add_subscription_poll)(&mut subscription, pending),
                "add a subscription",
            )? == 0
            {
                std::thread::yield_now();
            }
        }
        Ok(subscription)
    }

    fn is_connected(&self) -> bool {
        let of = if self.how.exclusive {
            self.api.exclusive_is_connected
        } else {
            self.api.shared_is_connected
        };
        // SAFETY: both handles came from their polls and are open.
        unsafe { of(self.publication) && (self.api.subscription_is_connected)(self.subscription) }
    }

    /// One attempt; the new position, or why not, as a negative number.
    #[inline(always)]
    fn try_publish(&mut self, number: u64) -> i64 {
        let len = self.buffer.len();
        if self.how.claims {
            let mut claim = BufferClaim {
                frame_header: ptr::null_mut(),
                data: ptr::null_mut(),
                length: 0,
            };
            let of = if self.how.exclusive {
                self.api.exclusive_claim
            } else {
                self.api.shared_claim
            };
            // SAFETY: the publication is open. A claim that succeeded is `len`
            // writable bytes at `data`, at least 8, until it is committed.
            unsafe {
                let position = of(self.publication, len, &mut claim);
                if position > 0 {
                    claim.data.cast::<u64>().write_unaligned(number);
                    (self.api.commit)(&mut claim);
                }
                position
            }
        } else {
            self.buffer[..8].copy_from_slice(&number.to_le_bytes());
            let of = if self.how.exclusive {
                self.api.exclusive_offer
            } else {
                self.api.shared_offer
            };
            // SAFETY: the publication is open, the buffer is `len` bytes, and no supplier is given.
            unsafe {
                of(
                    self.publication,
                    self.buffer.as_ptr(),
                    len,
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            }
        }
    }

    #[inline(always)]
    fn publish(&mut self, number: u64) -> Result<()> {
        loop {
            match self.try_publish(number) {
                position if position > 0 => return Ok(()),
                // Not connected yet, back pressure, the log rotates: again.
                -3..=-1 => {}
                _ => return Err(self.api.trouble("publish")),
            }
        }
    }

    #[inline(always)]
    fn poll(&mut self, fragments: usize) -> Result<()> {
        let (handler, argument): (Handler, *mut c_void) = if self.assembler.is_null() {
            (on_message, self.taken.cast())
        } else {
            (self.api.assembler_handler, self.assembler)
        };
        // SAFETY: the subscription is open, and the argument is the one its handler expects.
        let polled = unsafe { (self.api.poll)(self.subscription, handler, argument, fragments) };
        self.api.ok(polled, "poll").map(drop)
    }

    fn taken(&self) -> (u64, u64, u64) {
        // SAFETY: made in open(), freed in drop; the handler runs inside poll() only.
        let taken = unsafe { &*self.taken };
        (taken.count, taken.sum, taken.last)
    }
}

/// Called by Aeron, on the thread that polls, for each message.
unsafe extern "C" fn on_message(
    taken: *mut c_void,
    buffer: *const u8,
    length: usize,
    _header: *mut c_void,
) {
    // SAFETY: `taken` is the one that was given to poll, which nothing else uses
    // meanwhile; `buffer` is `length` readable bytes for the length of the call.
    let (taken, message) = unsafe {
        (
            &mut *taken.cast::<Taken>(),
            std::slice::from_raw_parts(buffer, length),
        )
    };
    let Some(head) = message.first_chunk() else {
        return;
    };
    if let Some(private) = taken
        .private
        .as_mut()
        .filter(|private| private.len() == length)
    {
        private.copy_from_slice(message);
        std::hint::black_box(&private);
    }
    taken.last = u64::from_le_bytes(*head);
    taken.sum = taken.sum.wrapping_add(taken.last);
    taken.count += 1;
}

impl Ping for End {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.publish(number)
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        let (before, ..) = self.taken();
        loop {
            self.poll(1)?;
            let (count, _, last) = self.taken();
            if count != before {
                return Ok(last);
            }
        }
    }
}

impl Produce for End {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        (first..first + count).try_for_each(|number| self.publish(number))
    }
}

impl Consume for End {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let (before, sum, _) = self.taken();
        // Never past `count`: what comes then belongs to the next call.
        loop {
            let left = before + count - self.taken().0;
            if left == 0 {
                return Ok(self.taken().1.wrapping_sub(sum));
            }
            self.poll(FRAGMENTS.min(left as usize))?;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: each handle is null or open, and closed once: the client first,
        // which closes its publications and subscriptions, and stops all calls of
        // the handler; then what the handler used.
        unsafe {
            if !self.client.is_null() {
                (self.api.close)(self.client);
            }
            if !self.context.is_null() {
                (self.api.context_close)(self.context);
            }
            if !self.assembler.is_null() {
                (self.api.assembler_delete)(self.assembler);
            }
            drop(Box::from_raw(self.taken));
        }
    }
}
