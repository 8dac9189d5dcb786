//! What many samples come to.

/// The value at `share` (0 to 1) of the samples; nearest rank. Not a number where there are none.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wanted = share * sorted.len() as f64;
    let mut rank = 0.0;
    for value in &sorted {
        rank += 1.0;
        if rank >= wanted {
            return *value;
        }
    }
    f64::NAN
}
