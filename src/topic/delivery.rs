//! When a delivery that failed is tried again (`DeliveryPolicy`), in the words of SNS: "Creating an HTTP/S
//! delivery policy", `healthyRetryPolicy`. Here every subscription may have one.
//!
//! ```text
//! retry   1 … numNoDelayRetries   … + numMinDelayRetries   …                            … numRetries
//! after   0                        minDelayTarget           minDelayTarget → maxDelayTarget   maxDelayTarget
//!                                                           by backoffFunction               numMaxDelayRetries
//! ```
//! SNS draws its back-off functions and gives no formulas. Of the k-th of n, x = k / (n − 1):
//! linear min + (max − min) x; arithmetic min + (max − min) k (k + 1) / (n (n − 1)); exponential
//! min + (max − min) (2^k − 1) / (2^(n−1) − 1); geometric min (max / min)^x.

use serde_json::{Map, Value};
use std::time::Duration;

/// Longest delay in seconds, and longest time that all retries may take.
const MAX_SECONDS: u32 = 3600;
/// Most retries.
const MAX_RETRIES: u32 = 100;

/// How the delay grows from the least to the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackoffFunction {
    /// By the same step each time.
    #[default]
    Linear,
    /// By steps that grow evenly.
    Arithmetic,
    /// By the same factor each time.
    Geometric,
    /// By steps that double.
    Exponential,
}

/// When deliveries of one subscription are tried again (`healthyRetryPolicy`). What is left out is as in SNS:
/// three retries, 20 s apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// `minDelayTarget`, 1 s to `max_delay_s`.
    pub min_delay_s: u32,
    /// `maxDelayTarget`, up to an hour.
    pub max_delay_s: u32,
    /// `numRetries`, up to 100.
    pub retries: u32,
    /// `numNoDelayRetries`: so many at once.
    pub no_delay_retries: u32,
    /// `numMinDelayRetries`: then so many after the least delay.
    pub min_delay_retries: u32,
    /// `numMaxDelayRetries`: the last so many after the longest delay.
    pub max_delay_retries: u32,
    /// `backoffFunction`.
    pub backoff: BackoffFunction,
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        Self {
            min_delay_s: 20,
            max_delay_s: 20,
            retries: 3,
            no_delay_retries: 0,
            min_delay_retries: 0,
            max_delay_retries: 0,
            backoff: BackoffFunction::Linear,
        }
    }
}

impl DeliveryPolicy {
    /// Reads the policy of a subscription: `{"healthyRetryPolicy": {"minDelayTarget": 1, "numRetries": 5}}`.
    ///
    /// # Errors
    /// What is wrong with it. Throttling and request policies of SNS are for HTTP and are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |reason: String| Err(format!("Invalid parameter: DeliveryPolicy: {reason}"));
        let parsed: Value = match serde_json::from_str(text) {
            Ok(parsed) => parsed,
            Err(error) => return invalid(format!("it is no JSON ({error})")),
        };
        let Value::Object(policy) = parsed else {
            return invalid("it is no JSON object".to_owned());
        };
        if let Some(other) = policy.keys().find(|key| *key != "healthyRetryPolicy") {
            return invalid(format!(
                "{other} is not known here; there is healthyRetryPolicy"
            ));
        }
        match policy.get("healthyRetryPolicy") {
            None => Ok(Self::default()),
            Some(Value::Object(retry)) => Self::of_retry(retry)
                .or_else(|reason| invalid(format!("healthyRetryPolicy.{reason}"))),
            Some(_) => invalid("healthyRetryPolicy must be an object".to_owned()),
        }
    }

    fn of_retry(retry: &Map<String, Value>) -> Result<Self, String> {
        let mut policy = Self::default();
        for (key, value) in retry {
            let number = || {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                number.ok_or_else(|| format!("{key} must be a number that is not negative"))
            };
            match &**key {
                "minDelayTarget" => policy.min_delay_s = number()?,
                "maxDelayTarget" => policy.max_delay_s = number()?,
                "numRetries" => policy.retries = number()?,
                "numNoDelayRetries" => policy.no_delay_retries = number()?,
                "numMinDelayRetries" => policy.min_delay_retries = number()?,
                "numMaxDelayRetries" => policy.max_delay_retries = number()?,
                "backoffFunction" => {
                    policy.backoff = match value.as_str() {
                        Some("linear") => BackoffFunction::Linear,
                        Some("arithmetic") => BackoffFunction::Arithmetic,
                        Some("geometric") => BackoffFunction::Geometric,
                        Some("exponential") => BackoffFunction::Exponential,
                        _ => {
                            let known = "linear, arithmetic, geometric or exponential";
                            return Err(format!("backoffFunction must be {known}"));
                        }
                    };
                }
                other => return Err(format!("{other} is not known")),
            }
        }
        policy.check().map(|()| policy)
    }

    fn check(&self) -> Result<(), String> {
        if self.max_delay_s > MAX_SECONDS {
            return Err(format!(
                "maxDelayTarget must be less than or equal to {MAX_SECONDS}"
            ));
        }
        if self.min_delay_s < 1 || self.min_delay_s > self.max_delay_s {
            return Err("minDelayTarget must be at least 1 and at most maxDelayTarget".to_owned());
        }
        if self.retries > MAX_RETRIES {
            return Err(format!(
                "numRetries must be less than or equal to {MAX_RETRIES}"
            ));
        }
        let parts = [
            self.no_delay_retries,
            self.min_delay_retries,
            self.max_delay_retries,
        ];
        let parts: u64 = parts.into_iter().map(u64::from).sum();
        if parts > u64::from(self.retries) {
            let parts = "numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries";
            return Err(format!("numRetries must be at least the sum of {parts}"));
        }
        let all = (0..self.retries).filter_map(|retry| self.delay(retry));
        if all.sum::<Duration>() > Duration::from_secs(MAX_SECONDS.into()) {
            return Err(format!(
                "all retries together must take at most {MAX_SECONDS} seconds"
            ));
        }
        Ok(())
    }

    /// When a delivery is tried again that has failed `failed` times before this one; `None`: not any more.
    pub fn delay(&self, failed: u32) -> Option<Duration> {
        if failed >= self.retries {
            return None;
        }
        let (least, most) = (f64::from(self.min_delay_s), f64::from(self.max_delay_s));
        let backoff_from = self.no_delay_retries + self.min_delay_retries;
        let backoff_to = self.retries - self.max_delay_retries;
        let seconds = if failed < self.no_delay_retries {
            0.0
        } else if failed < backoff_from {
            least
        } else if failed >= backoff_to {
            most
        } else {
            let (k, n) = (
                f64::from(failed - backoff_from),
                f64::from(backoff_to - backoff_from),
            );
            if n < 2.0 {
                least
            } else {
                let part = match self.backoff {
                    BackoffFunction::Linear => k / (n - 1.0),
                    BackoffFunction::Arithmetic => k * (k + 1.0) / (n * (n - 1.0)),
                    BackoffFunction::Exponential => (k.exp2() - 1.0) / ((n - 1.0).exp2() - 1.0),
                    BackoffFunction::Geometric => {
                        let grown = (most / least).powf(k / (n - 1.0));
                        return Some(Duration::from_secs_f64(least * grown));
                    }
                };
                least + (most - least) * part
            }
        };
        Some(Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Vec<u64> {
        let policy = DeliveryPolicy::parse(text).unwrap();
        let all = (0..).map_while(|failed| policy.delay(failed));
        all.map(|delay| delay.as_secs_f64().round() as u64)
            .collect()
    }

    #[test]
    fn each_phase_has_its_delays_and_then_there_are_no_more() {
        assert_eq!(seconds("{}"), [20, 20, 20]);
        let phases = r#"{"healthyRetryPolicy": {"minDelayTarget": 2, "maxDelayTarget": 10, "numRetries": 9,
            "numNoDelayRetries": 1, "numMinDelayRetries": 2, "numMaxDelayRetries": 1,
            "backoffFunction": "FUNCTION"}}"#;
        for (function, delays) in [
            ("linear", [0, 2, 2, 2, 4, 6, 8, 10, 10]),
            ("arithmetic", [0, 2, 2, 2, 3, 4, 7, 10, 10]),
            ("geometric", [0, 2, 2, 2, 3, 4, 7, 10, 10]),
            ("exponential", [0, 2, 2, 2, 3, 4, 6, 10, 10]),
        ] {
            assert_eq!(
                seconds(&phases.replace("FUNCTION", function)),
                delays,
                "{function}"
            );
        }
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_field_and_the_limit() {
        for (text, says) in [
            ("5", "no JSON object"),
            (r#"{"throttlePolicy": {}}"#, "throttlePolicy is not known"),
            (
                r#"{"healthyRetryPolicy": {"numRetries": 101}}"#,
                "numRetries must be less than or equal to 100",
            ),
            (
                r#"{"healthyRetryPolicy": {"minDelayTarget": 0}}"#,
                "minDelayTarget must be at least 1",
            ),
            (
                r#"{"healthyRetryPolicy": {"minDelayTarget": 30}}"#,
                "at most maxDelayTarget",
            ),
            (
                r#"{"healthyRetryPolicy": {"maxDelayTarget": 3601}}"#,
                "less than or equal to 3600",
            ),
            (
                r#"{"healthyRetryPolicy": {"numNoDelayRetries": 4}}"#,
                "at least the sum",
            ),
            (
                r#"{"healthyRetryPolicy": {"maxDelayTarget": 3600, "minDelayTarget": 3600}}"#,
                "together",
            ),
            (
                r#"{"healthyRetryPolicy": {"backoffFunction": "none"}}"#,
                "linear, arithmetic",
            ),
            (
                r#"{"healthyRetryPolicy": {"numRetries": -1}}"#,
                "not negative",
            ),
        ] {
            let refused = DeliveryPolicy::parse(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
