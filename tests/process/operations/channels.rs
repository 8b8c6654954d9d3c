//! What victims do with a bus and its channels: sends, loans, reads, views, seats, roles, files.

use super::*;

/// The first sends of a producer look around; this is every later one.
pub(super) fn send_warm(player: &Player) -> Result<(), String> {
    let mut producer = warm(player)?;
    let body = body(VICTIM + WARM, INLINE);
    begin();
    let sent = producer.try_send(&body);
    player.ack(WARM, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

/// A producer that has found the tail, room, and the next boundary of the tail hint.
pub(super) fn warm(player: &Player) -> Result<ringway::Producer, String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    for n in 0..WARM {
        let sent = producer.try_send(&body(VICTIM + n, INLINE));
        player.ack(n, &sent);
        sent.map_err(text)?;
    }
    Ok(producer)
}

pub(super) fn send(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    let body = body(VICTIM, INLINE);
    begin();
    let sent = producer.try_send(&body);
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

pub(super) fn send_with(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    begin();
    let sent = producer.try_send_with(INLINE, |out| write_body(VICTIM, out));
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

pub(super) fn batch(player: &Player) -> Result<(), String> {
    let mut producer = warm(player)?;
    let ids = [WARM, WARM + 1, WARM + 2];
    let bodies = ids.map(|n| body(VICTIM + n, INLINE));
    begin();
    let sent = producer.try_send_batch(&bodies);
    if let Ok(3) = sent {
        ids.iter().for_each(|n| player.ack(*n, &sent));
    }
    end();
    match sent {
        Ok(3) => player.sequel(&mut producer),
        other => Err(format!("a batch of 3: {other:?}")),
    }
}

pub(super) fn loan_and_drop(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    drop(producer.loan(LARGE).map_err(text)?);
    let body = body(VICTIM, LARGE);
    begin();
    let loan = producer.loan(LARGE);
    if let Ok(mut loan) = loan {
        loan.copy_from_slice(&body);
    }
    end();
    player.sequel(&mut producer)
}

pub(super) fn loan_and_send(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    drop(producer.loan(LARGE).map_err(text)?);
    let body = body(VICTIM, LARGE);
    begin();
    let sent = match producer.loan(LARGE) {
        Ok(mut loan) => {
            loan.copy_from_slice(&body);
            producer.try_send_loan(loan).map_err(|(error, _)| error)
        }
        Err(error) => Err(error),
    };
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

pub(super) fn large_send_warm(player: &Player) -> Result<(), String> {
    let mut producer = player.channel()?.producer().map_err(text)?;
    drop(producer.loan(LARGE).map_err(text)?);
    large_send(player, producer)
}

pub(super) fn large_send_cold(player: &Player) -> Result<(), String> {
    let producer = player.channel()?.producer().map_err(text)?;
    large_send(player, producer)
}

pub(super) fn large_send(player: &Player, mut producer: ringway::Producer) -> Result<(), String> {
    let body = body(VICTIM, LARGE);
    begin();
    let sent = producer.try_send(&body);
    player.ack(0, &sent);
    end();
    sent.map_err(text)?;
    player.sequel(&mut producer)
}

pub(super) fn reader(player: &Player, reliable: bool) -> Result<Reader, String> {
    let builder = player.channel()?.reader().start(Start::Earliest);
    let builder = if reliable {
        builder.reliable()
    } else {
        builder.lossy()
    };
    builder.join().map_err(text)
}

pub(super) fn read_reliably(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, true)?;
    let mut buffer = [0; 1024];
    begin();
    let read = reader.try_read(&mut buffer);
    end();
    let record = read.map_err(text)?.ok_or("nothing to read")?;
    first_record(id_of(&buffer[..record.len])?)?;
    Player::read_on(&mut reader, 1)
}

pub(super) fn read_lossily(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    let mut buffer = [0; 1024];
    begin();
    let read = reader.try_read(&mut buffer);
    end();
    match read {
        Ok(Some(record)) => first_record(id_of(&buffer[..record.len])?)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

pub(super) fn first_record(id: u64) -> Result<(), String> {
    if id == SURVIVOR {
        Ok(())
    } else {
        Err(format!("the first record is {id:#x}"))
    }
}

pub(super) fn view(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, true)?;
    begin();
    let id = reader.try_view().map(|view| view.map(|view| id_of(&view)));
    end();
    first_record(id.map_err(text)?.ok_or("nothing to see")??)?;
    Player::read_on(&mut reader, 1)
}

pub(super) fn view_lossily(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    begin();
    let id = reader.try_view().map(|view| view.map(|view| id_of(&view)));
    end();
    match id {
        Ok(Some(id)) => first_record(id?)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

pub(super) fn pinned_view(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    begin();
    let id = reader
        .try_view_pinned()
        .map(|view| view.map(|view| id_of(&view)));
    end();
    match id {
        Ok(Some(id)) => first_record(id?)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

pub(super) fn read_batch(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, true)?;
    let mut ids = [0u64; 3];
    let mut count = 0;
    begin();
    let read = reader.read_batch(3, |_, body| {
        ids[count] = id_of(body).unwrap_or(0);
        count += 1;
    });
    end();
    if !matches!(read, Ok(3)) || ids != [0, 1, 2].map(|n| SURVIVOR + n) {
        return Err(format!("a batch of 3: {read:?}, {ids:x?}"));
    }
    Player::read_on(&mut reader, 3)
}

/// The claim has been met before; at this look its owner is old enough to be probed.
pub(super) fn read_past_the_dead(player: &Player) -> Result<(), String> {
    let mut reader = reader(player, false)?;
    while Player::read(&mut reader)?.is_some() {}
    let met = std::time::Instant::now();
    // The probe is due 50 µs after the claim was met: passed by working, not by sleeping.
    while met.elapsed() < std::time::Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let mut buffer = [0; 1024];
    begin();
    let read = reader.try_read(&mut buffer);
    end();
    match read {
        Ok(Some(record)) => id_of(&buffer[..record.len]).map(drop)?,
        Ok(None) | Err(ReadError::Lagged { .. }) => {}
        Err(error) => return Err(text(error)),
    }
    Player::read_on(&mut reader, 0)
}

pub(super) fn reader_join(player: &Player) -> Result<(), String> {
    let builder = player.channel()?.reader().start(Start::Earliest);
    begin();
    let reader = builder.join();
    end();
    let mut reader = reader.map_err(text)?;
    // What it finds depends on when it got its place, but from there on nothing may be missing.
    let Some(first) = Player::read(&mut reader)? else {
        return Ok(());
    };
    Player::read_on(&mut reader, first - SURVIVOR + 1)
}

pub(super) fn reader_drop(player: &Player) -> Result<(), String> {
    let channel = player.channel()?;
    let reader = channel
        .reader()
        .start(Start::Earliest)
        .join()
        .map_err(text)?;
    begin();
    drop(reader);
    end();
    player.sequel(&mut channel.producer().map_err(text)?)
}

pub(super) fn producer_take(player: &Player) -> Result<(), String> {
    let channel = player.channel()?;
    begin();
    let producer = channel.producer();
    end();
    match producer {
        Ok(mut producer) => player.sequel(&mut producer),
        // The survivor took the place before we did, and gave it back since.
        Err(ringway::JoinError::Busy { .. }) => {
            player.sequel(&mut channel.producer().map_err(text)?)
        }
        Err(error) => Err(text(error)),
    }
}

pub(super) fn producer_drop(player: &Player) -> Result<(), String> {
    let channel = player.channel()?;
    let mut producer = channel.producer().map_err(text)?;
    let sent = producer.try_send(&body(VICTIM, LARGE));
    player.ack(0, &sent);
    begin();
    drop(producer);
    end();
    player.sequel(&mut channel.producer().map_err(text)?)
}

pub(super) fn role(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    let taken = bus.take_role(3);
    let released = bus.release_role(3);
    end();
    if taken.is_ok() == released {
        Ok(())
    } else {
        Err(format!("{taken:?}, {released}"))
    }
}

pub(super) fn bus_attach(player: &Player) -> Result<(), String> {
    let builder = stage::bus(&player.stage.path("root")).participant_name("victim");
    begin();
    let bus = builder.open();
    end();
    let channel = bus.map_err(text)?.channel("c").open().map_err(text)?;
    player.sequel(&mut channel.producer().map_err(text)?)
}

pub(super) fn bus_create(player: &Player) -> Result<(), String> {
    let builder = stage::bus_called(OTHER, &player.stage.path("root"));
    begin();
    let bus = builder.create();
    end();
    match bus {
        Ok(bus) => works(&bus, LARGE),
        // Somebody was first while we were stopped.
        Err(ringway::OpenError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

/// Whoever was first: afterwards there is one, and we are in it.
pub(super) fn bus_open_or_create(player: &Player) -> Result<(), String> {
    let builder = stage::bus_called(OTHER, &player.stage.path("root"));
    begin();
    let bus = builder.open_or_create();
    end();
    works(&bus.map_err(text)?, LARGE)
}

pub(super) fn bus_detach(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    drop(bus);
    end();
    player.sequel(&mut player.channel()?.producer().map_err(text)?)
}

pub(super) fn channel_open(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    let builder = bus.channel("c");
    begin();
    let channel = builder.open();
    end();
    player.sequel(&mut channel.map_err(text)?.producer().map_err(text)?)
}

pub(super) fn channel_create(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    let builder = bus
        .channel("object")
        .slots(stage::SLOTS)
        .stride(stage::STRIDE)
        .readers(8);
    begin();
    let channel = builder.create();
    end();
    match channel {
        Ok(channel) => {
            let sent = channel
                .producer()
                .map_err(text)?
                .try_send(b"no reader, no matter");
            sent.map(drop).map_err(text)
        }
        // Somebody was first while we were stopped.
        Err(ringway::OpenError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

pub(super) fn channel_remove(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    begin();
    let removed = bus.remove("object");
    end();
    match removed {
        Ok(()) | Err(ringway::OpenError::NotFound { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

pub(super) fn reap(player: &Player) -> Result<(), String> {
    let bus = player.bus()?;
    let channel = bus.channel("c").open().map_err(text)?;
    begin();
    let reaped = bus.reap();
    end();
    reaped.map_err(text)?;
    player.sequel(&mut channel.producer().map_err(text)?)
}
