//! An axis of a plot: which values it spans, where they stand, and which of them are written beside it.

/// What axes of losses and of percentages never leave.
pub(crate) const LOSSES: [f64; 2] = [0.0, 1e6];
pub(crate) const PERCENT: [f64; 2] = [0.0, 100.0];
/// Share of a tick's step that is taken for rounding.
const SLACK: f64 = 1e-6;

/// Maps values to pixels.
pub(crate) struct Axis {
    /// First and last value.
    pub(crate) range: [f64; 2],
    /// Where those are.
    pub(crate) ends: [f64; 2],
    pub(crate) ticks: Vec<f64>,
    /// Digits after the point that the ticks need.
    pub(crate) decimals: usize,
}

impl Axis {
    /// Whole epochs, with room beside the first and the last.
    pub(crate) fn of_epochs(epochs: impl Iterator<Item = f64>, ends: [f64; 2]) -> Axis {
        let [first, last] = extent(epochs).unwrap_or([1.0, 1.0]);
        let room = if first == last { 0.5 } else { 0.03 * (last - first) };
        let step = nice_step((last - first) / 10.0).max(1.0).ceil();
        Axis { range: [first - room, last + room], ends, ticks: multiples(step, first, last), decimals: 0 }
    }

    /// Logarithms, with a tick at each whole one.
    pub(crate) fn of_powers(logarithms: impl Iterator<Item = f64>, ends: [f64; 2]) -> Axis {
        let [first, last] = extent(logarithms).unwrap_or([-1.0, 0.0]);
        let room = if first == last { 0.5 } else { 0.02 * (last - first) };
        Axis { range: [first - room, last + room], ends, ticks: multiples(1.0, first, last), decimals: 0 }
    }

    /// From the tick below the least value to the one above the largest, but never beyond the limits.
    pub(crate) fn of_values(values: impl Iterator<Item = f64>, ends: [f64; 2], limits: [f64; 2]) -> Axis {
        let [mut low, mut high] = extent(values).unwrap_or([0.0, 1.0]);
        if high - low < 1e-3 * high.abs().max(1.0) {
            let room = 0.01 * high.abs().max(0.1);
            (low, high) = (low - room, high + room);
        } else if low < 0.5 * high {
            // Well on the way to zero: show it.
            low = 0.0;
        }
        let step = nice_step((high - low) / 6.0);
        let low = ((low / step + SLACK).floor() * step).max(limits[0]);
        let high = ((high / step - SLACK).ceil() * step).min(limits[1]);
        let whole = |value: f64| (value - value.round()).abs() < SLACK;
        let decimals = (0..6).find(|&digits| whole(step * 10f64.powi(digits))).unwrap_or(6) as usize;
        Axis { range: [low, high], ends, ticks: multiples(step, low, high), decimals }
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = (value - self.range[0]) / (self.range[1] - self.range[0]);
        self.ends[0] + share * (self.ends[1] - self.ends[0])
    }
}

/// Least and largest value.
fn extent(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    values.fold(None, |extent, value| {
        let [low, high] = extent.unwrap_or([value, value]);
        Some([low.min(value), high.max(value)])
    })
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powi(least.max(1e-12).log10().floor() as i32);
    [1.0, 2.0, 2.5, 5.0].map(|digit| digit * power).into_iter().find(|&step| step >= least).unwrap_or(10.0 * power)
}

/// Multiples of `step` from `low` to `high`.
fn multiples(step: f64, low: f64, high: f64) -> Vec<f64> {
    let first = (low / step - SLACK).ceil() as i64;
    let last = (high / step + SLACK).floor() as i64;
    (first..=last.min(first + 100)).map(|i| i as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[f64], limits: [f64; 2]) -> Axis {
        Axis::of_values(values.iter().copied(), [0.0, 1.0], limits)
    }

    #[test]
    fn accuracy_is_zoomed_to_the_data_and_ends_at_100() {
        let axis = values(&[97.31, 99.12], PERCENT);
        assert_eq!((axis.range, axis.decimals), ([97.0, 99.5], 1));
        assert_eq!(axis.ticks, [97.0, 97.5, 98.0, 98.5, 99.0, 99.5]);
        assert_eq!(values(&[98.1, 100.0], PERCENT).range, [98.0, 100.0]);
        assert_eq!(values(&[100.0], PERCENT).range[1], 100.0);
    }

    #[test]
    fn loss_that_nearly_vanishes_starts_at_zero() {
        assert_eq!(values(&[0.02, 0.41], LOSSES).range, [0.0, 0.5]);
        let whole = values(&[23.0, 27.0], LOSSES).ticks;
        assert_eq!(whole, [23.0, 24.0, 25.0, 26.0, 27.0]);
        let tenths = values(&[2.3, 2.7], LOSSES).ticks;
        assert!(tenths.len() == 5 && tenths.iter().zip(whole).all(|(a, b)| (10.0 * a - b).abs() < 1e-9), "{tenths:?}");
    }

    #[test]
    fn epochs_are_whole() {
        for last in 1..400 {
            let axis = Axis::of_epochs((1..=last).map(f64::from), [0.0, 1.0]);
            assert!(
                axis.ticks.iter().all(|tick| tick.fract() == 0.0) && (1..=11).contains(&axis.ticks.len()),
                "{last}"
            );
        }
    }
}
