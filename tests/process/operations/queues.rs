//! What victims do with queues: sends, receives, what settles a message, FIFO groups, views, redrives.

use super::*;

pub(super) fn queue(player: &Player) -> Result<Queue, String> {
    player.bus()?.queue("q").open().map_err(text)
}

pub(super) fn queue_send_warm(player: &Player) -> Result<(), String> {
    let mut sender = queue(player)?.sender().map_err(text)?;
    for n in 0..WARM {
        let sent = sender.send(&body(VICTIM + n, INLINE));
        player.ack(n, &sent);
        sent.map_err(text)?;
    }
    queue_send_of(player, sender, WARM, INLINE, None)
}

pub(super) fn queue_send(player: &Player) -> Result<(), String> {
    let sender = queue(player)?.sender().map_err(text)?;
    queue_send_of(player, sender, 0, INLINE, None)
}

pub(super) fn queue_send_large(player: &Player) -> Result<(), String> {
    let mut sender = queue(player)?.sender().map_err(text)?;
    drop(sender.loan(LARGE).map_err(text)?);
    queue_send_of(player, sender, 0, LARGE, None)
}

pub(super) fn queue_send_delayed(player: &Player) -> Result<(), String> {
    let sender = queue(player)?.sender().map_err(text)?;
    let moment = Duration::from_millis(2);
    queue_send_of(player, sender, 0, INLINE, Some(moment))
}

pub(super) fn queue_send_of(
    player: &Player,
    mut sender: QueueSender,
    n: u64,
    len: usize,
    delay: Option<Duration>,
) -> Result<(), String> {
    let message = body(VICTIM + n, len);
    begin();
    let sent = match delay {
        None => sender.send(&message),
        Some(delay) => sender.send_delayed(&message, delay),
    };
    player.ack(n, &sent);
    end();
    sent.map_err(text)?;
    let sent = sender.send(&body(VICTIM + WARM + 1, LARGE));
    player.ack(WARM + 1, &sent);
    sent.map(drop).map_err(text)
}

/// Sends the message that all send.
pub(super) fn send_once(bus: &Bus, len: usize) -> Result<Sent, String> {
    let queue = bus.queue("once").open().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let body = body(VICTIM, len);
    let message = Outgoing::new(&body).group("g").dedup_id("the-same");
    sender.send_message(&message).map_err(text)
}

pub(super) fn queue_send_once(player: &Player) -> Result<(), String> {
    queue_send_once_of(player, INLINE)
}

pub(super) fn queue_send_once_large(player: &Player) -> Result<(), String> {
    queue_send_once_of(player, LARGE)
}

pub(super) fn queue_send_once_of(player: &Player, len: usize) -> Result<(), String> {
    let bus = player.bus()?;
    let queue = bus.queue("once").open().map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    let other = Outgoing::new(b"other").group("g").dedup_id("other");
    if !sender.send_message(&other).map_err(text)?.duplicate {
        return Err("the survivor has sent this before".into());
    }
    let body = body(VICTIM, len);
    let message = Outgoing::new(&body).group("g").dedup_id("the-same");
    begin();
    let sent = sender.send_message(&message);
    end();
    let sent = sent.map_err(text)?;
    let again = send_once(&bus, INLINE)?;
    if !again.duplicate || again.position != sent.position {
        return Err(format!("{sent:?}, and then {again:?}"));
    }
    Ok(())
}

/// The victim has deleted a message of the survivor.
#[inline(always)]
pub(super) fn ack_deleted(player: &Player, id: u64) {
    player.acks.set(DELETED, id - SURVIVOR + 1);
}

/// Deletes what is held; the survivor may not have got it meanwhile.
pub(super) fn delete_held(
    player: &Player,
    receiver: &mut QueueReceiver,
    (id, received): (u64, Received),
) -> Result<(), String> {
    if !(SURVIVOR..VICTIM).contains(&id) {
        return Err(format!("received {id:#x}"));
    }
    match receiver.delete(&received.receipt) {
        Ok(true) => {
            ack_deleted(player, id);
            Ok(())
        }
        other => Err(format!("the delete of a message that is held: {other:?}")),
    }
}

/// Receives the first message, before the stretch.
pub(super) fn holding(player: &Player) -> Result<(QueueReceiver, (u64, Received)), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    let received = receiver.try_receive(&mut buffer).map_err(text)?;
    let received = received.ok_or("nothing to receive")?;
    let id = id_of(&buffer[..received.len])?;
    Ok((receiver, (id, received)))
}

pub(super) fn queue_receive(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    begin();
    let received = receiver.try_receive(&mut buffer);
    end();
    // Stopped in the middle, it may find that the survivor has taken everything.
    match received.map_err(text)? {
        None => Ok(()),
        Some(received) => {
            let id = id_of(&buffer[..received.len])?;
            delete_held(player, &mut receiver, (id, received))
        }
    }
}

/// Walks over two sealed rings to the third, and gives the second back.
pub(super) fn queue_receive_on(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffers = [[0; 1024]; 2];
    begin();
    let received = buffers
        .each_mut()
        .map(|buffer| receiver.try_receive(buffer));
    end();
    let [first, second] = received;
    if let Some(second) = second.map_err(text)? {
        let given_back = receiver.nack(&second.receipt, Duration::ZERO);
        given_back.map_err(text)?;
    }
    match first.map_err(text)? {
        None => Ok(()),
        Some(first) => {
            let id = id_of(&buffers[0][..first.len])?;
            delete_held(player, &mut receiver, (id, first))
        }
    }
}

pub(super) fn queue_take(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let mut buffer = [0; 1024];
    begin();
    let received = receiver.receive_and_delete(&mut buffer);
    end();
    match received.map_err(text)? {
        None => Ok(()),
        Some(received) => {
            ack_deleted(player, id_of(&buffer[..received.len])?);
            Ok(())
        }
    }
}

pub(super) fn queue_delete(player: &Player) -> Result<(), String> {
    let (mut receiver, (id, received)) = holding(player)?;
    begin();
    let deleted = receiver.delete(&received.receipt);
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    match deleted {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

pub(super) fn queue_extend(player: &Player) -> Result<(), String> {
    let (mut receiver, held) = holding(player)?;
    begin();
    let extended = receiver.change_visibility(&held.1.receipt, Duration::from_secs(3600));
    end();
    extended.map_err(text)?;
    delete_held(player, &mut receiver, held)
}

pub(super) fn queue_nack(player: &Player) -> Result<(), String> {
    let (mut receiver, (_, received)) = holding(player)?;
    begin();
    let given_back = receiver.nack(&received.receipt, Duration::ZERO);
    end();
    given_back.map_err(text)
}

/// Receives, and closes everything but the bus with the message in its hands; the receipt is good
/// beyond that.
pub(super) fn queue_close(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    let received = (|| {
        let queue = bus.queue("q").open().map_err(text)?;
        let mut receiver = queue.receiver().map_err(text)?;
        let mut buffer = [0; 1024];
        let received = receiver.try_receive(&mut buffer).map_err(text)?;
        received
            .map(|received| Ok((id_of(&buffer[..received.len])?, received)))
            .transpose()
    })();
    end();
    let received: Result<Option<(u64, Received)>, String> = received;
    let Some(held) = received? else {
        return Ok(());
    };
    let queue = bus.queue("q").open().map_err(text)?;
    delete_held(player, &mut queue.receiver().map_err(text)?, held)
}

pub(super) fn fifo_send(player: &Player) -> Result<(), String> {
    let mut sender = queue(player)?.sender().map_err(text)?;
    let mut send = |n: u64, len: usize, is_watched: bool| {
        let message = body(VICTIM + n, len);
        let message = Outgoing::new(&message).group("first");
        if is_watched {
            begin();
        }
        let sent = sender.send_message(&message);
        player.ack(n, &sent.as_ref().map(|sent| sent.position));
        if is_watched {
            end();
        }
        sent.map(drop).map_err(text)
    };
    for n in 0..WARM {
        send(n, INLINE, false)?;
    }
    send(WARM, INLINE, true)?;
    send(WARM + 1, LARGE, false)
}

pub(super) fn fifo_batch(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    begin();
    let received = receiver.receive(2, Duration::ZERO, None);
    end();
    // Given back: the survivor insists on each of them.
    for message in received.map_err(text)? {
        let receipt = message.received.receipt;
        receiver.nack(&receipt, Duration::ZERO).map_err(text)?;
    }
    Ok(())
}

/// The first two of the group, before the stretch.
pub(super) fn holding_two(player: &Player) -> Result<(QueueReceiver, Vec<Message>), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    let received = receiver.receive(2, Duration::ZERO, None).map_err(text)?;
    if received.len() != 2 {
        return Err(format!("received {received:?}"));
    }
    Ok((receiver, received))
}

/// Deletes the second; the first comes again.
pub(super) fn fifo_delete_second(player: &Player) -> Result<(), String> {
    let (mut receiver, two) = holding_two(player)?;
    let id = id_of(&two[1].body)?;
    begin();
    let deleted = receiver.delete(&two[1].received.receipt);
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    if !matches!(deleted, Ok(true)) {
        return Err(format!("{deleted:?}"));
    }
    let first = &two[0].received.receipt;
    receiver.nack(first, Duration::ZERO).map_err(text)
}

/// Deletes the second before the stretch and the first in it, and so both.
pub(super) fn fifo_delete_behind(player: &Player) -> Result<(), String> {
    let (mut receiver, two) = holding_two(player)?;
    player.acks.set(TAKEN, id_of(&two[1].body)? - SURVIVOR + 1);
    let second = receiver.delete(&two[1].received.receipt).map_err(text)?;
    let id = id_of(&two[0].body)?;
    begin();
    let deleted = receiver.delete(&two[0].received.receipt);
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    match (second, deleted) {
        (true, Ok(true)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Looks at the first message in place, and deletes it.
pub(super) fn queue_view(player: &Player) -> Result<(), String> {
    let mut receiver = queue(player)?.receiver().map_err(text)?;
    begin();
    let view = receiver.try_receive_view();
    end();
    // Stopped in the middle, it may find that the survivor has taken everything.
    let Some(view) = view.map_err(text)? else {
        return Ok(());
    };
    let held = (id_of(&view)?, view.received());
    drop(view);
    delete_held(player, &mut receiver, held)
}

/// Closes a view whose message was deleted under it.
pub(super) fn queue_view_close(player: &Player) -> Result<(), String> {
    let queue = queue(player)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let view = receiver.try_receive_view().map_err(text)?;
    let view = view.ok_or("nothing to look at")?;
    let id = id_of(&view)?;
    match queue.delete(&view.receipt()) {
        Ok(true) => ack_deleted(player, id),
        other => return Err(format!("{other:?}")),
    }
    begin();
    drop(view);
    end();
    Ok(())
}

/// Deletes a message that it is looking at.
pub(super) fn queue_delete_under_view(player: &Player) -> Result<(), String> {
    let queue = queue(player)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let view = receiver.try_receive_view().map_err(text)?;
    let view = view.ok_or("nothing to look at")?;
    let id = id_of(&view)?;
    begin();
    let deleted = queue.delete(&view.receipt());
    if deleted.is_ok() {
        ack_deleted(player, id);
    }
    end();
    match (deleted, id_of(&view)?) {
        (Ok(true), seen) if seen == id => Ok(()),
        other => Err(format!("{other:?}, not {id:#x}")),
    }
}

pub(super) fn queue_redrive(player: &Player) -> Result<(), String> {
    queue_redrive_of(player, INLINE)
}

pub(super) fn queue_redrive_large(player: &Player) -> Result<(), String> {
    queue_redrive_of(player, LARGE)
}

/// Moves a message, with the dead-letter queue open already.
pub(super) fn queue_redrive_of(player: &Player, len: usize) -> Result<(), String> {
    let source = player.bus()?.queue(redriven::SOURCE).open().map_err(text)?;
    let mut receiver = source.receiver().map_err(text)?;
    redriven::poison(&source, &mut receiver, 0, len)?;
    receive_nothing(&mut receiver)?;
    redriven::poison(&source, &mut receiver, 1, len)?;
    begin();
    let moved = receive_nothing(&mut receiver);
    end();
    moved
}

/// Opens the dead-letter queue and moves a message.
pub(super) fn queue_redrive_first(player: &Player) -> Result<(), String> {
    let source = player.bus()?.queue(redriven::SOURCE).open().map_err(text)?;
    let mut receiver = source.receiver().map_err(text)?;
    begin();
    let moved = receive_nothing(&mut receiver);
    end();
    moved
}

/// Receives from the source, where nothing is to be had, and so moves what is to be moved.
pub(super) fn receive_nothing(receiver: &mut QueueReceiver) -> Result<(), String> {
    match receiver.try_receive(&mut [0; 1024]).map_err(text)? {
        None => Ok(()),
        Some(received) => Err(format!("received {received:?}")),
    }
}
