//! Times as EC2 writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-25T18:31:58Z`, exactly: UTC, whole seconds, nothing before 1970.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let bytes: [u8; 20] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if !marks.iter().all(|(at, mark)| bytes[*at] == *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = year >= 1970 && hour < 24 && minute < 60 && second < 60;
    if !in_range || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let days = days_before(year) + (1..month).map(|month| days_in(year, month)).sum::<u64>() + day - 1;
    UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// From 1970 to the first day of `year`.
fn days_before(year: u64) -> u64 {
    (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // By `date -u -d … +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2017-09-18T08:22:00Z", 1_505_722_920),
            ("2026-11-25T18:31:58Z", 1_795_631_518),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(parse(text), Some(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_a_time_is_none() {
        for bad in [
            "",
            "2026-11-25",
            "2026-11-25T18:31:58",
            "2026-11-25T18:31:58.5Z",
            "2026-11-25T18:31:58+00:00",
            "2026-13-25T18:31:58Z",
            "2026-00-25T18:31:58Z",
            "2026-02-29T18:31:58Z",
            "2026-11-31T18:31:58Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T18:31:60Z",
            "1969-12-31T23:59:59Z",
            "2026-11-2+T18:31:58Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
