//! What victims do with streams: puts, changes of shards, leases, checkpoints.

use super::*;

pub(super) fn stream(player: &Player) -> Result<Stream, String> {
    let bus = player.bus()?;
    bus.stream(streamed::STREAM).open().map_err(text)
}

/// The first puts of a producer look around; this is every later one.
pub(super) fn stream_put(player: &Player) -> Result<(), String> {
    let mut producer = stream(player)?.producer().map_err(text)?;
    for n in 0..WARM {
        player.ack(n, &producer.put("v", &body(VICTIM + n, INLINE)));
    }
    let next = body(VICTIM + WARM, INLINE);
    begin();
    let put = producer.put("v", &next);
    player.ack(WARM, &put);
    end();
    put.map_err(text)?;
    let put = producer.put("v", &body(VICTIM + WARM + 1, INLINE));
    player.ack(WARM + 1, &put);
    put.map(drop).map_err(text)
}

pub(super) fn stream_put_batch(player: &Player) -> Result<(), String> {
    let mut producer = stream(player)?.producer().map_err(text)?;
    let bodies: Vec<_> = (0..5).map(|n| body(VICTIM + n, INLINE)).collect();
    player.ack(0, &producer.put("v", &bodies[0]));
    let records: Vec<_> = bodies[1..4]
        .iter()
        .map(|body| PutRecord::new("v", body))
        .collect();
    begin();
    let outcomes = producer.put_batch(&records);
    for (n, outcome) in (1..).zip(&outcomes) {
        player.ack(n, outcome);
    }
    end();
    for outcome in outcomes {
        outcome.map_err(text)?;
    }
    let put = producer.put("v", &bodies[4]);
    player.ack(4, &put);
    put.map(drop).map_err(text)
}

/// Two records of a user in one of the stream, that fits into a slot.
pub(super) fn stream_put_aggregated(player: &Player) -> Result<(), String> {
    let mut producer = stream(player)?.producer().map_err(text)?;
    player.ack(0, &producer.put("v", &body(VICTIM, INLINE)));
    let mut producer = producer.aggregating(Aggregation::default());
    let bodies = [body(VICTIM + 1, 16), body(VICTIM + 2, 16)];
    for body in &bodies {
        producer.put("v", body).map_err(text)?;
    }
    begin();
    let flushed = producer.flush();
    player.ack(1, &flushed);
    player.ack(2, &flushed);
    end();
    flushed.map(drop).map_err(text)?;
    producer.put("v", &body(VICTIM + 3, INLINE)).map_err(text)?;
    let flushed = producer.flush();
    player.ack(3, &flushed);
    flushed.map(drop).map_err(text)
}

/// Another may have been quicker, when this one was stopped.
pub(super) fn changed<T>(player: &Player, changed: Result<T, ReshardError>) -> Result<(), String> {
    player.ack(streamed::CHANGED as u64, &changed);
    match changed {
        Ok(_) | Err(ReshardError::NotOpen { .. } | ReshardError::NotAdjacent { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

pub(super) fn stream_split(player: &Player) -> Result<(), String> {
    let stream = stream(player)?;
    begin();
    let split = stream.split(ShardId(0), None);
    player.ack(streamed::CHANGED as u64, &split);
    end();
    changed(player, split)
}

pub(super) fn stream_merge(player: &Player) -> Result<(), String> {
    let stream = stream(player)?;
    begin();
    let merged = stream.merge(ShardId(0), ShardId(1));
    player.ack(streamed::CHANGED as u64, &merged);
    end();
    changed(player, merged)
}

pub(super) fn stream_register(player: &Player) -> Result<(), String> {
    let stream = stream(player)?;
    begin();
    let registered = stream.register_consumer(streamed::CONSUMER, ConsumerPolicy::Block);
    player.ack(streamed::CHANGED as u64, &registered);
    end();
    registered.map(drop).map_err(text)
}

/// Takes the leases, and is handed what stands there.
pub(super) fn stream_lease(player: &Player) -> Result<(), String> {
    let group = stream(player)?.group(streamed::GROUP).map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    begin();
    let read = worker.try_read_batch(1000, |_| ());
    end();
    read.map(drop).map_err(text)
}

pub(super) fn stream_checkpoint(player: &Player) -> Result<(), String> {
    let group = stream(player)?.group(streamed::GROUP).map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    let mut read = 0;
    while read < streamed::FIRST as usize {
        read += worker
            .read_batch(1000, Duration::from_millis(1), |_| ())
            .map_err(text)?;
    }
    begin();
    let checkpointed = worker.checkpoint();
    player.ack(streamed::CHECKPOINTED as u64, &checkpointed);
    end();
    match checkpointed {
        // Its leases passed on while it was stopped.
        Ok(_) | Err(CheckpointError::Fenced { .. }) => Ok(()),
        Err(error) => Err(text(error)),
    }
}
