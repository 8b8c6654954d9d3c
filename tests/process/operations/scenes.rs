//! What the survivor prepares before a victim starts, does beside it while it is stopped, and looks at in the end.

use super::*;

pub(super) fn some_records(world: &mut World) -> Result<(), String> {
    world.send(&[INLINE, INLINE, LARGE, INLINE])
}

pub(super) fn large_first(world: &mut World) -> Result<(), String> {
    world.send(&[LARGE, INLINE, LARGE])
}

/// The flag that a sleeper raised stands until somebody wakes it.
pub(super) fn with_a_sleeper(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.drain()?;
    world.doze()
}

/// The next position is the first of the second lap, and everything below it is read: the sender
/// has to advance `trim` and to free the payloads below.
pub(super) fn a_full_lap(world: &mut World) -> Result<(), String> {
    let mut lens = [INLINE; stage::SLOTS as usize];
    lens[..64].fill(LARGE);
    world.send(&lens)?;
    world.drain()
}

pub(super) fn two_queues(world: &mut World) -> Result<(), String> {
    world.redriven = Some(Redriven::new(world.bus(), 2)?);
    Ok(())
}

pub(super) fn a_stream(world: &mut World) -> Result<(), String> {
    world.streamed = Some(Streamed::new(world.bus())?);
    Ok(())
}

pub(super) fn a_topic(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.published = Some(Published::new(world.bus())?);
    Ok(())
}

pub(super) fn a_topic_with_a_backlog(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut published = Published::new(world.bus())?;
    published.leave(WARM + 3)?;
    world.published = Some(published);
    Ok(())
}

pub(super) fn a_topic_that_is_heard(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.published = Some(Published::new(world.bus())?.listen()?);
    Ok(())
}

pub(super) fn a_topic_of_three(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    world.published = Some(Published::new(world.bus())?.subscribe_late()?);
    Ok(())
}

pub(super) fn two_queues_with_poison(world: &mut World) -> Result<(), String> {
    let mut redriven = Redriven::new(world.bus(), 1)?;
    redriven.poison(LARGE)?;
    world.redriven = Some(redriven);
    Ok(())
}

pub(super) fn a_queue(world: &mut World) -> Result<(), String> {
    queue_of(world, &[INLINE, LARGE, INLINE], false)
}

pub(super) fn a_queue_of_large(world: &mut World) -> Result<(), String> {
    queue_of(world, &[LARGE, INLINE], false)
}

pub(super) fn a_queue_to_take_from(world: &mut World) -> Result<(), String> {
    queue_of(world, &[INLINE, LARGE], true)
}

pub(super) fn a_queue_of_large_to_take_from(world: &mut World) -> Result<(), String> {
    queue_of(world, &[LARGE, INLINE], true)
}

pub(super) fn a_queue_to_leave(world: &mut World) -> Result<(), String> {
    a_queue(world)?;
    world.book.iter_mut().for_each(|book| book.may_leave = true);
    Ok(())
}

pub(super) fn queue_of(world: &mut World, lens: &[usize], may_take: bool) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::new(world.bus())?;
    book.send(lens)?;
    book.may_take = may_take.then_some(0);
    world.book = Some(book);
    Ok(())
}

pub(super) fn a_fifo_queue(world: &mut World) -> Result<(), String> {
    fifo_of(world, None)
}

pub(super) fn a_fifo_queue_to_take_from(world: &mut World) -> Result<(), String> {
    fifo_of(world, Some(0))
}

pub(super) fn a_fifo_queue_to_take_the_second_from(world: &mut World) -> Result<(), String> {
    fifo_of(world, Some(1))
}

/// Three messages of one group.
pub(super) fn fifo_of(world: &mut World, may_take: Option<u64>) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::of(world.bus(), QueueKind::Fifo)?;
    book.send(&[INLINE, LARGE, INLINE])?;
    book.end_group();
    book.may_take = may_take;
    world.book = Some(book);
    Ok(())
}

/// The next position is the first of the second round, and its slot holds a message in flight.
pub(super) fn a_queue_gone_round(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::new(world.bus())?;
    book.send(&[INLINE; stage::SLOTS as usize])?;
    book.hold_the_first()?;
    world.book = Some(book);
    Ok(())
}

pub(super) fn a_queue_that_deduplicates(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let builder = world.bus().queue("once").fifo().slots(stage::SLOTS);
    let builder = builder.deduplicate(Deduplication::of_ids(1024));
    let queue = builder.create().map_err(text)?;
    let other = Outgoing::new(b"other").group("g").dedup_id("other");
    let sent = queue.sender().map_err(text)?.send_message(&other);
    sent.map(drop).map_err(text)
}

/// Its first ring holds as many messages as it can, and there is room for another.
pub(super) fn a_queue_about_to_grow(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::growing(world.bus())?;
    book.send(&[INLINE; stage::SLOTS as usize])?;
    world.book = Some(book);
    Ok(())
}

/// Nothing is in its first ring and in its second any more, but the second is still there; the third
/// has a message.
pub(super) fn a_queue_that_has_grown(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    let mut book = Book::growing(world.bus())?;
    book.send(&[INLINE; 3 * stage::SLOTS as usize + 1])?;
    book.take(3 * stage::SLOTS)?;
    world.book = Some(book);
    Ok(())
}

pub(super) fn with_an_object(world: &mut World) -> Result<(), String> {
    some_records(world)?;
    stage::channel(world.bus(), "object", Producers::Shared).map(drop)
}

/// The survivor repeats the message that the victim is about.
pub(super) fn send_once_beside(world: &mut World) -> Result<(), String> {
    send_once(world.bus(), INLINE).map(drop)
}

// What the survivor looks at.

/// However far the victim came, and whoever repeated it: one message of that id.
pub(super) fn sent_exactly_once(world: &mut World) -> Result<(), String> {
    let sent = send_once(world.bus(), INLINE)?;
    let queue = world.bus().queue("once").open().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut positions = Vec::new();
    // The claim of the dead is met, and then found out.
    let start = Instant::now();
    while queue.stats().visible > 0 && start.elapsed() < deadline() {
        for message in receiver.receive(10, Duration::ZERO, None).map_err(text)? {
            receiver.delete(&message.received.receipt).map_err(text)?;
            if message.body != b"other" {
                id_of(&message.body)?;
                positions.push(message.received.position());
            }
        }
    }
    if positions != [sent.position] {
        return Err(format!("{sent:?}, received from {positions:?}"));
    }
    let again = send_once(world.bus(), INLINE)?;
    if !again.duplicate || again.position != sent.position {
        return Err(format!("{sent:?}, deleted, and then {again:?}"));
    }
    Ok(())
}

pub(super) fn the_role_is_free(world: &mut World) -> Result<(), String> {
    world.take_role(3)
}

pub(super) fn the_object_works(world: &mut World) -> Result<(), String> {
    world.timed(|world| works(world.bus(), LARGE))
}

/// The same without a payload that would stay in it.
pub(super) fn the_object_is_there(world: &mut World) -> Result<(), String> {
    world.timed(|world| works(world.bus(), INLINE))
}

/// Whoever wants the bus that the victim creates has it, and sends and reads.
pub(super) fn the_other_bus_works(world: &mut World) -> Result<(), String> {
    world.timed(|world| {
        let other = stage::bus_called(OTHER, world.root());
        works(&other.open_or_create().map_err(text)?, LARGE)
    })
}

/// The same when what the stopped victim is building looks abandoned by its age.
pub(super) fn the_other_bus_works_long_after(world: &mut World) -> Result<(), String> {
    age_hidden_names(world.root())?;
    the_other_bus_works(world)
}

/// And nothing else is left, once what was being built is old enough to be called a leftover.
pub(super) fn the_other_bus_is_whole(world: &mut World) -> Result<(), String> {
    the_other_bus_works(world)?;
    age_hidden_names(world.root())?;
    let bus = stage::bus_called(OTHER, world.root());
    let bus = bus.open().map_err(text)?;
    bus.doctor(true).map_err(text)?;
    let report = bus.doctor(false).map_err(text)?;
    let mut left = names(world.root())?;
    left.sort();
    if !report.is_clean() || report.participants != 1 || left != ["ringway-other", "ringway-stage"]
    {
        return Err(format!("{left:?}, {report:?}"));
    }
    Ok(())
}

pub(super) fn names(root: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(root).map_err(text)?;
    let names = entries.map(|entry| Ok(entry.map_err(text)?.file_name().display().to_string()));
    names.collect()
}

/// An hour passes.
pub(super) fn age_hidden_names(root: &Path) -> Result<(), String> {
    for name in names(root)?.iter().filter(|name| name.starts_with('.')) {
        let hidden = std::fs::File::open(root.join(name)).map_err(text)?;
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        hidden.set_modified(long_ago).map_err(text)?;
    }
    Ok(())
}

pub(super) fn works(bus: &Bus, len: usize) -> Result<(), String> {
    let object = stage::channel(bus, "object", Producers::Shared)?;
    let mut reader = object.reader().join().map_err(text)?;
    object
        .producer()
        .map_err(text)?
        .try_send(&body(1, len))
        .map_err(text)?;
    match Player::read(&mut reader)? {
        Some(1) => Ok(()),
        other => Err(format!("the object gave {other:?}")),
    }
}
