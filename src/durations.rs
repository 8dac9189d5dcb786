//! Lengths of time as people write them, in the configuration, in requests and on the command line.

use std::time::Duration;

const MILLISECONDS_IN_SECOND: u64 = 1_000;
const MILLISECONDS_IN_MINUTE: u64 = 60 * MILLISECONDS_IN_SECOND;
const MILLISECONDS_IN_HOUR: u64 = 60 * MILLISECONDS_IN_MINUTE;
/// Largest first: a name that ends another (`ms`, `s`) must be tried before it.
const UNITS: [(&str, u64); 4] =
    [("ms", 1), ("h", MILLISECONDS_IN_HOUR), ("m", MILLISECONDS_IN_MINUTE), ("s", MILLISECONDS_IN_SECOND)];

/// A length of time: `"250ms"`, `"5s"`, `"2m"`, `"1h"`.
///
/// # Errors
/// What it must be, to complete "key = value: …".
pub fn parse(text: &str) -> Result<Duration, String> {
    let refusal = || "must be a whole number with a unit: \"250ms\", \"5s\", \"2m\" or \"1h\"".to_owned();
    for (name, milliseconds) in UNITS {
        let Some(digits) = text.strip_suffix(name) else { continue };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refusal());
        }
        let number: u64 = digits.parse().map_err(|_| refusal())?;
        return number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(refusal);
    }
    Err(refusal())
}

/// The shortest way to write a length of time that [`parse`] understands.
pub fn write(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    [("h", MILLISECONDS_IN_HOUR), ("m", MILLISECONDS_IN_MINUTE), ("s", MILLISECONDS_IN_SECOND)]
        .into_iter()
        .find(|(_, unit)| milliseconds.is_multiple_of(*unit))
        .map_or_else(|| format!("{milliseconds}ms"), |(name, unit)| format!("{}{name}", milliseconds / unit))
}

/// A length of time in a range.
///
/// # Errors
/// What it must be, as [`parse`].
pub fn parse_within(text: &str, range: &std::ops::RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = parse(text)?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    Err(format!("must be {} to {}", write(*range.start()), write(*range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, milliseconds) in
            [("250ms", 250), ("0s", 0), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            " 5s",
            "5 s",
            "5S",
            "1d",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_written_in_their_largest_whole_unit() {
        for (milliseconds, text) in
            [(0, "0s"), (250, "250ms"), (1_500, "1500ms"), (90_000, "90s"), (7_200_000, "2h")]
        {
            assert_eq!(write(Duration::from_millis(milliseconds)), text);
        }
    }
}
