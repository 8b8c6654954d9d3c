//! A message as SNS wraps it for a queue that does not want it raw: one JSON object.
//!
//! Source: "Parsing Amazon SNS message formats", HTTP/HTTPS notification JSON format. There are no
//! signature and no links; a body that is no UTF-8 is in base64, and `MessageEncoding` says so.

use super::message::Parsed;
use crate::queue::AttributeValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

/// Writes the notification of a message, with this body, in place of what was in `out`.
pub(super) fn wrap(
    topic: &str,
    parsed: &Parsed<'_>,
    body: &[u8],
    is_replayed: bool,
    out: &mut Vec<u8>,
) {
    let said = &parsed.said;
    let mut object = Map::new();
    object.insert("Type".into(), "Notification".into());
    object.insert("MessageId".into(), parsed.id.to_string().into());
    let arn = format!("arn:aws:sns:local:000000000000:{topic}");
    object.insert("TopicArn".into(), arn.into());
    if let Some(subject) = said.subject {
        object.insert("Subject".into(), subject.into());
    }
    match core::str::from_utf8(body) {
        Ok(text) => object.insert("Message".into(), text.into()),
        Err(_) => {
            object.insert("MessageEncoding".into(), "base64".into());
            let text = BASE64_STANDARD.encode(body);
            object.insert("Message".into(), text.into())
        }
    };
    object.insert("Timestamp".into(), timestamp(parsed.published_ms).into());
    if is_replayed {
        object.insert("Replayed".into(), true.into());
    }
    if !said.attributes.is_empty() {
        let attributes = said.attributes.iter().map(|attribute| {
            let value = match attribute.value {
                AttributeValue::String(text) | AttributeValue::Number(text) => text.to_owned(),
                AttributeValue::Binary(bytes) => BASE64_STANDARD.encode(bytes),
            };
            let value = json!({"Type": attribute.data_type(), "Value": value});
            (attribute.name.to_owned(), value)
        });
        object.insert("MessageAttributes".into(), Value::from_iter(attributes));
    }
    out.clear();
    serde_json::to_writer(&mut *out, &Value::Object(object)).expect("a vector takes everything");
}

/// `2026-11-26T15:04:05.678Z`. Days by "chrono-Compatible Low-Level Date Algorithms" (Hinnant),
/// `civil_from_days`, for years from 1970 on.
pub(super) fn timestamp(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 0000-03-01, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_sns_writes_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_335_387_904_751, "2012-04-25T21:05:04.751Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(timestamp(ms), text);
        }
    }
}
