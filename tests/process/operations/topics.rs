//! What victims do with topics: publish, dispatch, subscribe.

use super::*;

pub(super) fn topic_publish(player: &Player) -> Result<(), String> {
    topic_publish_of(player, WARM, INLINE)
}

pub(super) fn topic_publish_large(player: &Player) -> Result<(), String> {
    topic_publish_of(player, WARM, LARGE)
}

/// Opens the transit and both queues, too.
pub(super) fn topic_publish_first(player: &Player) -> Result<(), String> {
    topic_publish_of(player, 0, INLINE)
}

/// Publishes to two queues, the message behind `warm` others.
pub(super) fn topic_publish_of(player: &Player, warm: u64, len: usize) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let mut publisher = topic.publisher().map_err(text)?;
    for n in 0..warm {
        let body = body(VICTIM + n, len);
        player.ack(n, &publisher.publish(&Publication::new(&body)));
    }
    let next = body(VICTIM + warm, len);
    let message = Publication::new(&next);
    begin();
    let sent = publisher.publish(&message);
    player.ack(warm, &sent);
    end();
    sent.map_err(text)?;
    let last = body(VICTIM + warm + 1, INLINE);
    let sent = publisher.publish(&Publication::new(&last));
    player.ack(warm + 1, &sent);
    sent.map(drop).map_err(text)
}

/// Hands on one message of somebody else's, behind others, and one more.
pub(super) fn topic_dispatch(player: &Player) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let mut dispatcher = topic.dispatcher().map_err(text)?;
    dispatcher.dispatch(WARM as usize).map_err(text)?;
    begin();
    let handed_on = dispatcher.dispatch(1);
    end();
    // Somebody else may have handed on everything meanwhile.
    handed_on.map_err(text)?;
    dispatcher.dispatch(1).map(drop).map_err(text)
}

pub(super) fn topic_subscribe(player: &Player) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let options = published::options(published::QUEUES[2]);
    begin();
    let subscribed = topic.subscribe(&options);
    player.ack(published::SUBSCRIBED as u64, &subscribed);
    end();
    subscribed.map(drop).map_err(text)
}

pub(super) fn topic_unsubscribe(player: &Player) -> Result<(), String> {
    let topic = player.bus()?.topic(published::TOPIC).open().map_err(text)?;
    let subscriptions = topic.subscriptions().map_err(text)?;
    let late = subscriptions
        .iter()
        .find(|one| one.endpoint == published::QUEUES[2])
        .ok_or("the third queue is not subscribed")?;
    begin();
    let unsubscribed = topic.unsubscribe(late.id);
    player.ack(published::UNSUBSCRIBED as u64, &unsubscribed);
    end();
    unsubscribed.map_err(text)
}
