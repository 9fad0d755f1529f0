//! How far a share that was counted may be from the true one.

/// The quantile of the normal distribution below which 97.5 % lie: an interval of it to both sides holds 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % confidence interval of a share of which `part` in `whole` were counted: Wilson's score interval (E. B. Wilson,
/// "Probable inference, the law of succession, and statistical inference", 1927). It stays within 0 and 1 and means something
/// for small counts and for shares of 0 or 1, too. Of no counts it is everything.
///
/// It says what other pictures of the same kind would give, not what other training runs would.
///
/// ```
/// let [low, high] = convnet::evaluate::wilson_interval(81, 263);
/// assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5);
/// ```
pub fn wilson_interval(part: u64, whole: u64) -> [f64; 2] {
    if whole == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (whole as f64, part as f64 / whole as f64);
    let scale = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    // The ends are exactly 0 and 1 where nothing or everything was counted, which rounding would miss.
    let low = if part == 0 { 0.0 } else { centre - half };
    let high = if part >= whole { 1.0 } else { centre + half };
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    #[test]
    fn published_intervals() {
        for (part, whole, expected) in [
            (81, 263, [0.2553, 0.3662]),
            (15, 148, [0.0624, 0.1605]),
            (0, 20, [0.0, 0.1611]),
            (1, 29, [0.0061, 0.1718]),
        ] {
            let found = wilson_interval(part, whole);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 5e-5), "{part}/{whole}: {found:?}");
            let [low, high] = wilson_interval(whole - part, whole);
            assert!((1.0 - high - found[0]).abs() < 1e-12 && (1.0 - low - found[1]).abs() < 1e-12, "mirrored");
        }
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
        assert_eq!((wilson_interval(0, 7)[0], wilson_interval(7, 7)[1]), (0.0, 1.0));
    }
}
