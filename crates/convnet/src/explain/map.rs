//! A number for each place of a picture.

/// A number for each place of a picture, or of a layer's maps: rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    size: [usize; 2],
    values: Vec<f32>,
}

impl Map {
    /// A map of height and width.
    ///
    /// # Panics
    /// When the numbers are not as many as its places.
    pub fn new([height, width]: [usize; 2], values: Vec<f32>) -> Map {
        assert_eq!(values.len(), height * width, "a number for each place");
        Map { size: [height, width], values }
    }

    /// A map of `channels` planes of such a size, one after the other: what `merge` makes of a place's numbers.
    pub(super) fn merged(size: [usize; 2], planes: &[f32], merge: impl Fn(f32, f32) -> f32) -> Map {
        let len = size[0] * size[1];
        let mut values = vec![0.0; len];
        for plane in planes.chunks_exact(len.max(1)) {
            values.iter_mut().zip(plane).for_each(|(value, &x)| *value = merge(*value, x));
        }
        Map::new(size, values)
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The smallest and the largest number; both 0 where there is none.
    pub fn range(&self) -> [f32; 2] {
        let least = self.values.iter().copied().reduce(f32::min).unwrap_or(0.0);
        [least, self.values.iter().copied().reduce(f32::max).unwrap_or(0.0)]
    }

    /// The size that a share of the numbers does not exceed, whatever their sign.
    pub fn quantile(&self, share: f64) -> f32 {
        let mut sizes: Vec<f32> = self.values.iter().map(|value| value.abs()).collect();
        if sizes.is_empty() {
            return 0.0;
        }
        let rank = ((sizes.len() - 1) as f64 * share).ceil() as usize;
        *sizes.select_nth_unstable_by(rank, f32::total_cmp).1
    }

    /// The map in another size, bilinearly between the middles of its places and constant outside of them, as
    /// `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` and OpenCV's `INTER_LINEAR` do it.
    #[must_use]
    pub fn resized(&self, [height, width]: [usize; 2]) -> Map {
        let [rows, columns] = [taps(self.size[0], height), taps(self.size[1], width)];
        let at = |y: usize, x: usize| self.values[y * self.size[1] + x];
        let mut values = Vec::with_capacity(height * width);
        for &([above, below], down) in &rows {
            for &([left, right], across) in &columns {
                let row = |y: usize| at(y, left) + across * (at(y, right) - at(y, left));
                let (upper, lower) = (row(above), row(below));
                values.push(upper + down * (lower - upper));
            }
        }
        Map::new([height, width], values)
    }

    /// The place of the largest number: row and column.
    pub fn peak(&self) -> [usize; 2] {
        let largest = (0..self.values.len()).max_by(|&a, &b| self.values[a].total_cmp(&self.values[b]).then(b.cmp(&a)));
        let place = largest.unwrap_or(0);
        [place / self.size[1].max(1), place % self.size[1].max(1)]
    }
}

/// The two places of an axis of `from` between which each of `to` places lies, and how far it is from the first.
fn taps(from: usize, to: usize) -> Vec<([usize; 2], f32)> {
    let last = from.saturating_sub(1);
    let tap = |index: usize| {
        let place = ((index as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, last as f64);
        let before = place.floor();
        ([before as usize, (before as usize + 1).min(last)], (place - before) as f32)
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `F.interpolate(torch.tensor([[[[0., 4.], [8., 16.]]]]), size=(4, 3), mode="bilinear", align_corners=False)`.
    #[test]
    fn resizing_is_torchs() {
        let map = Map::new([2, 2], vec![0.0, 4.0, 8.0, 16.0]).resized([4, 3]);
        let expected = [0.0, 2.0, 4.0, 2.0, 4.5, 7.0, 6.0, 9.5, 13.0, 8.0, 12.0, 16.0];
        assert_eq!((map.size(), map.values()), ([4, 3], &expected[..]));
        assert_eq!((map.range(), map.peak(), map.quantile(1.0), map.quantile(0.0)), ([0.0, 16.0], [3, 2], 16.0, 0.0));
        assert_eq!(Map::new([1, 1], vec![3.0]).resized([2, 2]).values(), [3.0; 4]);
    }
}
