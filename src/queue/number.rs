//! The numbers of SQS: "up to 38 digits of precision, and it can be between 10^-128 and 10^+126"
//! (Amazon SQS message metadata). Only checked, never computed with: no digit is lost.

/// Most digits between the first and the last that is not zero.
const MAX_DIGITS: usize = 38;
/// Powers of ten of the first digit.
const MAX_POWER: i64 = 126;
const MIN_POWER: i64 = -128;

/// Whether `text` is a number that SQS takes: a sign perhaps, digits with a point perhaps, a power
/// of ten perhaps.
pub(super) fn is_valid(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, Some(0)),
        Some((mantissa, power)) => (mantissa, parse_power(power)),
    };
    let Some(power) = power else {
        return false;
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
        return false;
    }
    let Some(first) = digits().position(|digit| digit != b'0') else {
        return true; // zero
    };
    let count = whole.len() + fraction.len();
    let zeros_behind = digits().rev().take_while(|digit| *digit == b'0').count();
    let precision = count - first - zeros_behind;
    let is_power_of_ten = precision == 1 && digits().nth(first) == Some(b'1');
    let first_power = whole.len() as i64 - 1 - first as i64 + power;
    precision <= MAX_DIGITS
        && (MIN_POWER..=MAX_POWER).contains(&first_power)
        && (first_power < MAX_POWER || is_power_of_ten)
}

/// A power of ten; one so large that no number can have it is still one.
fn parse_power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let size: i64 = match digits.len() {
        0 => 0,
        1..=9 => digits.parse().ok()?,
        _ => return None,
    };
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn numbers_are_taken_up_to_their_bounds() {
        let long = "9".repeat(38);
        let far = format!("1{}", "0".repeat(126));
        let near = format!("0.{}1", "0".repeat(127));
        for text in [
            "0",
            "-0",
            "+1",
            "1.50",
            ".5",
            "5.",
            "007",
            "1e126",
            "-1E+126",
            "1e-128",
            "0e999999999",
            "9.9e125",
            &long,
            &far,
            &near,
            &format!("000{long}000"),
            &format!("0.{long}"),
        ] {
            assert!(is_valid(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_small_or_precise_is_refused() {
        let long = "9".repeat(39);
        let far = format!("2{}", "0".repeat(126));
        let near = format!("0.{}1", "0".repeat(128));
        for text in [
            "",
            "-",
            ".",
            "e1",
            "1e",
            "1e+",
            "1.2.3",
            "1,5",
            " 1",
            "1 ",
            "0x10",
            "NaN",
            "inf",
            "--1",
            "1e127",
            "1.1e126",
            "9e-129",
            "1e9999999999",
            "١",
            &long,
            &far,
            &near,
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }
}
