//! Numbers as policies compare them: with five digits behind the decimal point.
//!
//! A number is kept as a whole count of 10⁻⁵, so `301.5`, `3.015e2` and `301.500001` are equal and an
//! open bound is the closed one next to it. Up to ±9.2 × 10¹³ there is such a count; what is larger
//! compares with nothing.

/// Units of a number in 1.
const UNITS: i64 = 100_000;

/// A number in units of 10⁻⁵.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Decimal(pub i64);

impl Decimal {
    pub fn of_i64(number: i64) -> Option<Self> {
        number.checked_mul(UNITS).map(Self)
    }

    pub fn of_u64(number: u64) -> Option<Self> {
        i64::try_from(number).ok().and_then(Self::of_i64)
    }

    pub fn of_f64(number: f64) -> Option<Self> {
        let units = (number * UNITS as f64).round();
        // 2^63 is a float, and the first that is too large.
        (units.abs() < i64::MAX as f64).then_some(Self(units as i64))
    }

    /// The number that a Number attribute holds as text.
    pub fn of_text(text: &str) -> Option<Self> {
        match text.parse::<i64>() {
            Ok(whole) => Self::of_i64(whole),
            Err(_) => text.parse().ok().and_then(Self::of_f64),
        }
    }
}

impl core::fmt::Display for Decimal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (
            self.0.unsigned_abs() / UNITS as u64,
            self.0.unsigned_abs() % UNITS as u64,
        );
        write!(f, "{sign}{whole}")?;
        if rest == 0 {
            return Ok(());
        }
        let digits = format!("{rest:05}");
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_to_the_fifth_digit_and_written_as_people_write_them() {
        for text in ["301.5", "3.015e2", "301.500001", "301.499999"] {
            let number = Decimal::of_text(text).unwrap();
            assert_eq!((number.0, number.to_string()), (30_150_000, "301.5".into()));
        }
        for (text, written) in [
            ("-0.00001", "-0.00001"),
            ("-7", "-7"),
            ("1e9", "1000000000"),
        ] {
            assert_eq!(Decimal::of_text(text).unwrap().to_string(), written);
        }
        assert!(Decimal::of_text("300.9").unwrap() < Decimal::of_text("301").unwrap());
        for none in [
            "1e14",
            "NaN",
            "inf",
            "",
            "12 apples",
            "99999999999999999999",
        ] {
            assert_eq!(Decimal::of_text(none), None, "{none}");
        }
    }
}
