//! What of a FIFO topic's archive a new subscription gets first (`ReplayPolicy`), and how far it is.
//!
//! Source: "Amazon SNS message replay for FIFO topic subscribers". Points of time are said as SNS says them,
//! `2026-11-26T15:04:05.678Z`.

use serde_json::Value;

/// Messages of the archive that a subscription gets before what is published behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The oldest, in ms since the Unix epoch (`StartingPoint`).
    pub from_ms: u64,
    /// The newest (`EndingPoint`); `None`: all there are.
    pub to_ms: Option<u64>,
}

/// How far a replay is (`ReplayStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayStatus {
    /// It has not begun.
    Pending,
    /// Messages of the archive are being delivered.
    InProgress,
    /// Everything asked for was delivered; what is published is delivered as it comes.
    Completed,
}

impl Replay {
    /// Reads `{"PointType": "Timestamp", "StartingPoint": "…", "EndingPoint": "…"}`; without an ending point, to
    /// the end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |reason: String| format!("Invalid parameter: ReplayPolicy: {reason}");
        let parsed: Value = serde_json::from_str(text)
            .map_err(|error| invalid(format!("it is no JSON ({error})")))?;
        let Value::Object(policy) = parsed else {
            return Err(invalid("it is no JSON object".to_owned()));
        };
        let known = ["PointType", "StartingPoint", "EndingPoint"];
        if let Some(other) = policy.keys().find(|key| !known.contains(&&***key)) {
            return Err(invalid(format!("{other} is not known")));
        }
        if policy.get("PointType").and_then(Value::as_str) != Some("Timestamp") {
            return Err(invalid("PointType must be Timestamp".to_owned()));
        }
        let point = |name: &str| match policy.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => match instant(text) {
                Some(ms) => Ok(Some(ms)),
                None => Err(invalid(format!(
                    "{name} must be a time such as 2026-11-26T15:04:05.678Z"
                ))),
            },
            Some(_) => Err(invalid(format!("{name} must be a text"))),
        };
        let from_ms = point("StartingPoint")?
            .ok_or_else(|| invalid("StartingPoint is missing".to_owned()))?;
        let to_ms = point("EndingPoint")?;
        if to_ms.is_some_and(|to_ms| to_ms < from_ms) {
            return Err(invalid(
                "EndingPoint must not be before StartingPoint".to_owned(),
            ));
        }
        Ok(Self { from_ms, to_ms })
    }

    /// Whether a message of that time is one of those that were asked for.
    pub(super) fn holds(&self, published_ms: u64) -> bool {
        published_ms >= self.from_ms && self.to_ms.is_none_or(|to_ms| published_ms <= to_ms)
    }
}

/// The time that a text says, in ms since the Unix epoch. UTC; seconds may have up to nine more digits.
fn instant(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let number = |text: &str, digits: usize| {
        let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let mut date = date.split('-');
    let (year, month, day) = (
        number(date.next()?, 4)?,
        number(date.next()?, 2)?,
        number(date.next()?, 2)?,
    );
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let mut time = time.split(':');
    let (hour, minute, second) = (
        number(time.next()?, 2)?,
        number(time.next()?, 2)?,
        number(time.next()?, 2)?,
    );
    if date.next().is_some() || time.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let length = lengths.get((month as usize).checked_sub(1)?)?;
    if year < 1970 || !(1..=*length).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year)
        .map(|year| 365 + u64::from(is_leap(year)))
        .sum();
    let months: u64 = lengths[..month as usize - 1].iter().sum();
    let days = years + months + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::super::notification::timestamp;
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for ms in [0, 951_782_400_000, 1_335_387_904_751, 4_107_542_399_999] {
            assert_eq!(instant(&timestamp(ms)), Some(ms), "{}", timestamp(ms));
        }
        assert_eq!(instant("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(instant("1970-01-01T00:00:01.5Z"), Some(1500));
        for none in [
            "1970-01-01T00:00:01",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-1-01T00:00:00Z",
            "1969-01-01T00:00:00Z",
            "1970-01-01T00:00:00.xZ",
            "",
        ] {
            assert_eq!(instant(none), None, "{none}");
        }
    }

    #[test]
    fn a_policy_that_is_none_is_refused_with_what_is_wrong() {
        let whole = r#"{"PointType": "Timestamp", "StartingPoint": "1970-01-01T00:00:01Z", "EndingPoint": "1970-01-01T00:00:02Z"}"#;
        let replay = Replay::parse(whole).unwrap();
        assert_eq!(
            replay,
            Replay {
                from_ms: 1000,
                to_ms: Some(2000)
            }
        );
        assert!(
            replay.holds(1000) && replay.holds(2000) && !replay.holds(999) && !replay.holds(2001)
        );
        for (text, says) in [
            ("[]", "no JSON object"),
            (r#"{"PointType": "Offset"}"#, "PointType must be Timestamp"),
            (r#"{"PointType": "Timestamp"}"#, "StartingPoint is missing"),
            (
                r#"{"PointType": "Timestamp", "Start": 1}"#,
                "Start is not known",
            ),
            (
                r#"{"PointType": "Timestamp", "StartingPoint": "now"}"#,
                "must be a time",
            ),
            (&whole.replace(":02Z", ":00Z"), "must not be before"),
        ] {
            let refused = Replay::parse(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
