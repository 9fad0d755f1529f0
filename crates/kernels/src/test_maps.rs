//! Blocked maps for tests, with something between the pictures that nobody may touch.

use crate::layout::{Maps, MapsMut, blocks, from_blocked, to_blocked};
use crate::simd::LANES;
use crate::threads::Threads;

/// `[batch, channels, pixels]` of every kind: ragged channels, one and several pictures, fewer pixels than a tile's and more.
pub(crate) const SHAPES: [[usize; 3]; 8] =
    [[1, 1, 7], [3, 5, 6], [1, 16, 35], [3, 17, 15], [3, 40, 21], [1, 40, 1], [3, 17, 1], [3, 32, 1]];

/// What lies between pictures.
const GAP: f32 = 77.0;

/// Maps of which the pictures lie apart.
#[derive(Clone)]
pub(crate) struct TestMaps {
    shape: [usize; 3],
    len: usize,
    stride: usize,
    data: Vec<f32>,
}

impl TestMaps {
    /// Maps that hold NaN, `gap` floats from the end of one picture to the next.
    pub(crate) fn empty(shape: [usize; 3], gap: usize) -> TestMaps {
        let [batch, channels, pixels] = shape;
        let len = blocks(channels) * pixels * LANES;
        let mut data = vec![f32::NAN; batch * (len + gap)];
        data.chunks_exact_mut(len + gap).for_each(|picture| picture[len..].fill(GAP));
        TestMaps { shape, len, stride: len + gap, data }
    }

    /// Maps that hold these numbers.
    pub(crate) fn of(shape: [usize; 3], plain: &[f64], gap: usize) -> TestMaps {
        let mut maps = TestMaps::empty(shape, gap);
        let plain: Vec<f32> = plain.iter().map(|&x| x as f32).collect();
        to_blocked(&Threads::new(1).unwrap(), shape, &plain, maps.maps_mut());
        maps
    }

    pub(crate) fn maps(&self) -> Maps<'_> {
        Maps::packed(&self.data, self.stride)
    }

    pub(crate) fn maps_mut(&mut self) -> MapsMut<'_> {
        MapsMut::packed(&mut self.data, self.stride)
    }

    /// The numbers in NCHW order, after a check that nothing but 0 is in lanes past the last channel, and that what lies
    /// between pictures is as it was.
    #[track_caller]
    pub(crate) fn plain(&self) -> Vec<f64> {
        let [batch, channels, pixels] = self.shape;
        for picture in self.data.chunks_exact(self.stride) {
            assert!(picture[self.len..].iter().all(|&x| x == GAP), "{:?}: between pictures", self.shape);
            let last = &picture[(blocks(channels) - 1) * pixels * LANES..self.len];
            let padding = |(i, x): (usize, &f32)| i % LANES <= (channels - 1) % LANES || *x == 0.0;
            assert!(last.iter().enumerate().all(padding), "{:?}: lanes past the last channel", self.shape);
        }
        let mut plain = vec![0.0; batch * channels * pixels];
        from_blocked(&Threads::new(1).unwrap(), self.shape, self.maps(), &mut plain);
        plain.into_iter().map(f64::from).collect()
    }
}

/// Fails where two numbers differ by more than `tolerance`, or where one is NaN.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance, "{what}[{i}]: got {got}, want {want}");
    }
}
