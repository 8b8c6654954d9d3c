//! Settings: what a queue says now, and changing it while it is in use (SetQueueAttributes).

use super::definition::whole_ms;
use super::{Inner, Queue, QueueReceiver, Redrive, RedriveAllow};
use crate::error::SetError;
use crate::layout::durable::SETTINGS;
use crate::layout::queue::{
    ALLOW_ALL, ALLOW_LISTED, ALLOW_NONE, MAX_BODY_ON_DISK, MAX_DELAY_MS, MAX_MESSAGE_BYTES,
    MAX_RECEIVE_WAIT_MS, MAX_REDRIVE_SOURCES, MAX_RETENTION_MS, MAX_VISIBILITY_MS,
    MIN_RETENTION_MS, PARK_AFTER_RECEIVES, control,
};
use crate::layout::word::ROUTES;
use crate::ring::delivery::Delivery;
use crate::shm::words::word64;
use crate::sync::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a queue, as they are at one moment (GetQueueAttributes).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// How long a received message stays invisible if the receive does not say.
    pub visibility: Duration,
    /// How long a sent message stays invisible if the send does not say.
    pub delay: Duration,
    /// A message older than this is gone.
    pub retention: Duration,
    /// The largest body.
    pub max_message_bytes: u64,
    /// How long a receive waits if it does not say.
    pub receive_wait: Duration,
    /// Whether the message of a dead holder is received again at once.
    pub redeliver_on_death: bool,
    /// When messages go to a dead-letter queue, and to which; `None`: never.
    pub redrive: Option<Redrive>,
    /// Which queues may have this one as their dead-letter queue.
    pub redrive_allow: RedriveAllow,
    /// Most messages in the queue; `None`: as many as there is room for.
    pub max_messages: Option<u64>,
    /// Most messages in flight.
    pub max_in_flight: Option<u64>,
}

/// A setting that is not possible.
pub(crate) struct Refused {
    pub setting: &'static str,
    pub given: String,
    pub rule: String,
}

impl QueueSettings {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        Self {
            visibility: ms(delivery.visibility_ms()),
            delay: ms(delivery.delay_ms()),
            retention: Duration::from_millis(delivery.retention_ms()),
            max_message_bytes: delivery.max_message_bytes(),
            receive_wait: ms(delivery.receive_wait_ms()),
            redeliver_on_death: delivery.redelivers_on_death(),
            redrive: delivery.redrive().map(|(target, max_receives)| Redrive {
                target,
                max_receives,
            }),
            max_messages: Some(delivery.max_messages()).filter(|most| *most != 0),
            max_in_flight: Some(delivery.max_in_flight()).filter(|most| *most != 0),
            redrive_allow: match delivery.redrive_allow() {
                (ALLOW_ALL, _) => RedriveAllow::All,
                (ALLOW_LISTED, listed) => {
                    RedriveAllow::Queues(listed.into_iter().filter(|id| *id != 0).collect())
                }
                _ => RedriveAllow::None,
            },
        }
    }

    pub(crate) fn check(&self) -> Result<(), Refused> {
        let times = [
            ("visibility", self.visibility, 0, MAX_VISIBILITY_MS),
            ("delay", self.delay, 0, MAX_DELAY_MS),
            (
                "retention",
                self.retention,
                MIN_RETENTION_MS,
                MAX_RETENTION_MS,
            ),
            ("receive_wait", self.receive_wait, 0, MAX_RECEIVE_WAIT_MS),
        ];
        for (setting, given, least, most) in times {
            if whole_ms(given, most).is_none_or(|ms| ms < least) {
                let most = Duration::from_millis(most.into());
                let least = Duration::from_millis(least.into());
                return Err(Refused {
                    setting,
                    given: format!("{given:?}"),
                    rule: format!("{least:?} to {most:?} in whole milliseconds"),
                });
            }
        }
        if !(1..=MAX_MESSAGE_BYTES).contains(&self.max_message_bytes) {
            return Err(Refused {
                setting: "max_message_bytes",
                given: self.max_message_bytes.to_string(),
                rule: format!("1 to {MAX_MESSAGE_BYTES}"),
            });
        }
        if let Some(redrive) = self.redrive
            && !(1..=PARK_AFTER_RECEIVES).contains(&redrive.max_receives)
        {
            return Err(Refused {
                setting: "max_receives",
                given: redrive.max_receives.to_string(),
                rule: format!("1 to {PARK_AFTER_RECEIVES}"),
            });
        }
        let limits = [
            ("max_messages", self.max_messages),
            ("max_in_flight", self.max_in_flight),
        ];
        for (setting, limit) in limits {
            if limit == Some(0) {
                return Err(Refused {
                    setting,
                    given: "0".to_owned(),
                    rule: "at least 1, or none".to_owned(),
                });
            }
        }
        if let RedriveAllow::Queues(queues) = &self.redrive_allow
            && !(1..=MAX_REDRIVE_SOURCES).contains(&queues.len())
        {
            return Err(Refused {
                setting: "redrive_allow",
                given: format!("{} queues", queues.len()),
                rule: format!("1 to {MAX_REDRIVE_SOURCES} queues"),
            });
        }
        Ok(())
    }

    /// The word of each setting, by its offset, and what it says, in the order in which they are
    /// stored.
    pub(super) fn words(&self) -> Vec<(usize, u64)> {
        let ms = |time: Duration| time.as_millis() as u64;
        let (target, max_receives) = match self.redrive {
            Some(redrive) => (redrive.target, redrive.max_receives),
            None => (0, 0),
        };
        let (allow, listed) = match &self.redrive_allow {
            RedriveAllow::All => (ALLOW_ALL, &[][..]),
            RedriveAllow::None => (ALLOW_NONE, &[][..]),
            RedriveAllow::Queues(queues) => (ALLOW_LISTED, &queues[..]),
        };
        let mut words = vec![
            (control::VISIBILITY, ms(self.visibility)),
            (control::DELAY, ms(self.delay)),
            (control::RETENTION, ms(self.retention)),
            (control::MAX_MESSAGE, self.max_message_bytes),
            (control::RECEIVE_WAIT, ms(self.receive_wait)),
            (control::REDELIVER, self.redeliver_on_death.into()),
            (control::MAX_RECEIVES, max_receives.into()),
            (control::REDRIVE_TARGET, target),
            (control::MAX_MESSAGES, self.max_messages.unwrap_or(0)),
            (control::MAX_IN_FLIGHT, self.max_in_flight.unwrap_or(0)),
        ];
        for place in 0..MAX_REDRIVE_SOURCES {
            let id = listed.get(place).copied().unwrap_or(0);
            words.push((control::REDRIVE_SOURCES + 8 * place, id));
        }
        words.push((control::REDRIVE_ALLOW, allow));
        words
    }
}

/// Of words of settings that were kept, in the order of their offsets, those that say something that
/// there is, by their place.
pub(super) fn restored_words(kept: &[Option<u64>; SETTINGS]) -> impl Iterator<Item = (usize, u64)> {
    let place_of = |offset: usize| (offset - control::RETENTION) / 8;
    let bounds = [
        (
            control::RETENTION,
            MIN_RETENTION_MS.into()..=MAX_RETENTION_MS.into(),
        ),
        (control::VISIBILITY, 0..=MAX_VISIBILITY_MS.into()),
        (control::DELAY, 0..=MAX_DELAY_MS.into()),
        (control::MAX_MESSAGE, 1..=MAX_MESSAGE_BYTES),
        (control::REDELIVER, 0..=1),
        (control::RECEIVE_WAIT, 0..=MAX_RECEIVE_WAIT_MS.into()),
        (control::MAX_RECEIVES, 0..=PARK_AFTER_RECEIVES.into()),
        (control::REDRIVE_TARGET, 0..=u64::MAX),
        (control::REDRIVE_ALLOW, 0..=ALLOW_LISTED),
        (control::MAX_MESSAGES, 0..=u64::MAX),
        (control::MAX_IN_FLIGHT, 0..=u64::MAX),
    ];
    let sources =
        (0..MAX_REDRIVE_SOURCES).map(|place| (control::REDRIVE_SOURCES + 8 * place, 0..=u64::MAX));
    bounds
        .into_iter()
        .chain(sources)
        .filter_map(move |(offset, bounds)| {
            let place = place_of(offset);
            let value = kept[place].filter(|value| bounds.contains(value))?;
            Some((place, value))
        })
}

/// Settings to change, for [`Queue::set`]. What is not named stays as it is.
///
/// ```
/// use std::time::Duration;
/// let settings = ringway::Settings::new()
///     .visibility(Duration::from_secs(60))
///     .retention(Duration::from_secs(14 * 86_400));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "settings change nothing until a queue is given them by Queue::set"]
pub struct Settings {
    visibility: Option<Duration>,
    delay: Option<Duration>,
    retention: Option<Duration>,
    max_message_bytes: Option<u64>,
    receive_wait: Option<Duration>,
    redeliver_on_death: Option<bool>,
    redrive: Option<Option<Redrive>>,
    redrive_allow: Option<RedriveAllow>,
    max_messages: Option<Option<u64>>,
    max_in_flight: Option<Option<u64>>,
}

impl Settings {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a received message stays invisible if the receive does not say
    /// (`VisibilityTimeout`). 0 to 43,200 s in whole milliseconds. For later receives.
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.visibility = Some(visibility);
        self
    }

    /// How long a sent message stays invisible if the send does not say (`DelaySeconds`). 0 to
    /// 900 s in whole milliseconds. For later sends; of a FIFO queue also for the messages that are in
    /// it and were never received ("Amazon SQS delay queues" in the SQS developer guide): then every
    /// slot is looked at.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// How long a message is kept (`MessageRetentionPeriod`). 60 s to 14 days in whole
    /// milliseconds. For the messages that are in the queue too: shortened, older ones are gone.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// The largest body (`MaximumMessageSize`). 1 byte to 1 TiB. For later sends.
    pub fn max_message_bytes(mut self, bytes: u64) -> Self {
        self.max_message_bytes = Some(bytes);
        self
    }

    /// How long a receive waits that does not say (`ReceiveMessageWaitTimeSeconds`). 0 to 20 s in
    /// whole milliseconds. For later receives.
    pub fn receive_wait(mut self, wait: Duration) -> Self {
        self.receive_wait = Some(wait);
        self
    }

    /// Whether the message of a dead holder is visible at once, or when its time-out has passed.
    /// For holders that are found dead later.
    pub fn redeliver_on_death(mut self, redeliver: bool) -> Self {
        self.redeliver_on_death = Some(redeliver);
        self
    }

    /// Where messages go that are received and not deleted, and after how many receives
    /// (`RedrivePolicy`); `None`: nowhere, they are parked after 1,000. For messages that are in the
    /// queue too. The dead-letter queue has to be of the same bus and to allow it.
    pub fn redrive(mut self, redrive: impl Into<Option<Redrive>>) -> Self {
        self.redrive = Some(redrive.into());
        self
    }

    /// Which queues may have this one as their dead-letter queue (`RedriveAllowPolicy`). Those that
    /// have it already keep it.
    pub fn redrive_allow(mut self, allow: RedriveAllow) -> Self {
        self.redrive_allow = Some(allow);
        self
    }

    /// Most messages in the queue, in flight, delayed and parked ones too; `None`: as many as there is
    /// room for. Behind it a send is refused with
    /// [`QueueSendError::OverQuota`](crate::QueueSendError::OverQuota). Counted by looks, so senders
    /// that send at the same time may pass it by a little: by what each was granted at its last look,
    /// an eighth of the room that it found, within a tenth of a second. Moves from other queues are
    /// not refused.
    pub fn max_messages(mut self, messages: impl Into<Option<u64>>) -> Self {
        self.max_messages = Some(messages.into());
        self
    }

    /// Most messages in flight (SQS: 120,000); `None`: no limit. Behind it a receive is refused with
    /// [`ReceiveError::OverLimit`](crate::ReceiveError::OverLimit). Counted as
    /// [`max_messages`](Self::max_messages) is.
    pub fn max_in_flight(mut self, messages: impl Into<Option<u64>>) -> Self {
        self.max_in_flight = Some(messages.into());
        self
    }

    /// What `present` becomes.
    fn change(&self, present: &mut QueueSettings) {
        fn change<T: Clone>(wanted: &Option<T>, present: &mut T) {
            if let Some(wanted) = wanted {
                present.clone_from(wanted);
            }
        }
        change(&self.visibility, &mut present.visibility);
        change(&self.delay, &mut present.delay);
        change(&self.retention, &mut present.retention);
        change(&self.max_message_bytes, &mut present.max_message_bytes);
        change(&self.receive_wait, &mut present.receive_wait);
        change(&self.redeliver_on_death, &mut present.redeliver_on_death);
        change(&self.redrive, &mut present.redrive);
        change(&self.redrive_allow, &mut present.redrive_allow);
        change(&self.max_messages, &mut present.max_messages);
        change(&self.max_in_flight, &mut present.max_in_flight);
    }
}

impl Queue {
    /// The settings as they are now, whoever changed them. A few loads.
    pub fn settings(&self) -> QueueSettings {
        if self.inner.is_forked() {
            return self.inner.definition.settings();
        }
        self.inner.settings()
    }

    /// Changes settings of the queue for every process that has it open: their next operation goes
    /// by them (`SetQueueAttributes`, which takes up to a minute). Never blocks, but for the disk in a
    /// queue that is on one. All are checked
    /// before any is changed; of two calls at the same time, each setting has the value of one.
    ///
    /// # Errors
    /// [`SetError`]; nothing was changed then.
    pub fn set(&self, settings: &Settings) -> Result<(), SetError> {
        self.inner.set(settings)
    }
}

impl QueueReceiver {
    /// How long the queue says that a receive waits. For
    /// [`receive`](Self::receive): `receiver.receive(10, receiver.receive_wait(), None)`. In a forked
    /// child zero.
    pub fn receive_wait(&self) -> Duration {
        if self.is_of_parent() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.inner.delivery.receive_wait_ms().into())
    }
}

impl Inner {
    pub fn settings(&self) -> QueueSettings {
        QueueSettings::of(&self.delivery)
    }

    fn set(self: &Arc<Self>, settings: &Settings) -> Result<(), SetError> {
        if self.is_forked() {
            return Err(SetError::Forked);
        }
        if self.is_removed() {
            return Err(SetError::Removed);
        }
        let mut wanted = self.settings();
        settings.change(&mut wanted);
        wanted.check().map_err(|refused| SetError::InvalidSetting {
            setting: refused.setting,
            given: refused.given,
            rule: refused.rule,
        })?;
        if self.journal.is_some() && wanted.max_message_bytes > MAX_BODY_ON_DISK {
            return Err(SetError::InvalidSetting {
                setting: "max_message_bytes",
                given: wanted.max_message_bytes.to_string(),
                rule: format!("1 to {MAX_BODY_ON_DISK} in a queue on disk"),
            });
        }
        if let Some(Some(redrive)) = settings.redrive {
            self.check_redrive(redrive)?;
        }
        for (offset, value) in wanted.words() {
            let word = word64(&self.mapping, offset);
            // Who changes nothing leaves the line where it is, and to whoever changes it now.
            if word.load(Ordering::Relaxed) != value {
                word.store(value, Ordering::Relaxed);
            }
        }
        if let Some(delay) = settings.delay
            && self.delivery.is_fifo()
        {
            self.delivery.delay_anew(delay.as_millis() as u32);
        }
        // What can't be written now is written with the next that can.
        let _ = self.acknowledge_consumed();
        Ok(())
    }

    /// Whether that queue may be the dead-letter queue of this one.
    fn check_redrive(&self, redrive: Redrive) -> Result<(), SetError> {
        let target = redrive.target;
        if target == self.object_id {
            return Err(SetError::OwnTarget);
        }
        let found = Arc::clone(&self.host).queue_by_id(target)?;
        let found = found.ok_or(SetError::NoSuchTarget { target })?;
        if found.delivery.is_fifo() != self.delivery.is_fifo() {
            return Err(SetError::OtherKind {
                target: found.definition.name.clone(),
            });
        }
        if found.definition.durability < self.definition.durability {
            return Err(SetError::OnDisk {
                target: found.definition.name.clone(),
            });
        }
        if !found.settings().redrive_allow.allows(self.object_id) {
            return Err(SetError::TargetRefuses {
                target: found.definition.name.clone(),
            });
        }
        match self.delivery.route_to(target) {
            Some(_) => Ok(()),
            None => Err(SetError::TooManyTargets { limit: ROUTES }),
        }
    }
}
