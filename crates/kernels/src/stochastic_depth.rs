//! Stochastic depth (Huang et al. 2016) of single pictures, in place: picture `n` is set to 0 with probability `p`, else
//! multiplied by `1 / (1 - p)` (torchvision's `row` mode).
//!
//! `random::keep` decides by the picture's number, so that the decision is never stored: the gradient's call computes it
//! again.

use crate::layout::{MapsMut, each_piece};
use crate::random;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::Threads;

/// Drops or scales each of `batch` pictures of `len` floats, a multiple of 16; `p` is from 0 to 1.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn stochastic_depth(isa: Isa, threads: &Threads, shape: [usize; 2], seed: u64, p: f32, data: MapsMut<'_>) {
    assert!(data.as_maps().hold(shape[0], shape[1]));
    if p == 0.0 {
        return;
    }
    each_piece(threads, shape, data, &|n, _, data| match random::keep(seed, n as u64, p) {
        true => isa.run(Scale { factor: 1.0 / (1.0 - p), data }),
        false => data.fill(0.0),
    });
}

struct Scale<'a> {
    factor: f32,
    data: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        for x in self.data.chunks_exact_mut(LANES) {
            s.write(x, s.mul(s.read(x), factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::blocks;
    use crate::reference::dropout as reference;
    use crate::reference::gradcheck::pattern;
    use crate::test_maps::{TestMaps, assert_close};

    #[test]
    fn whole_pictures_are_dropped_or_scaled() {
        let threads = Threads::new(2).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for shape in [[1, 1, 7], [40, 17, 6], [3, 40, 1], [4, 40, 900]] {
                let [batch, channels, pixels] = shape;
                let plain = pattern(1, batch * channels * pixels);
                for (seed, p) in [(5, 0.0), (5, 0.2), (6, 0.5), (7, 1.0)] {
                    let mut maps = TestMaps::of(shape, &plain, 16);
                    let len = blocks(channels) * pixels * LANES;
                    stochastic_depth(isa, &threads, [batch, len], seed, p, maps.maps_mut());
                    // A picture is dropped as a channel is in dropout.
                    let want = match p == 1.0 {
                        true => vec![0.0; plain.len()],
                        false => reference::channels(&plain, channels * pixels, p, |n| random::keep(seed, n, p)),
                    };
                    assert_close(&format!("{} {shape:?} {p}", isa.name()), &maps.plain(), &want, 1e-6);
                }
            }
        }
    }

    #[test]
    fn what_is_dropped_is_gone() {
        let (threads, mut data) = (Threads::new(1).unwrap(), [f32::NAN; 16]);
        stochastic_depth(Isa::best(), &threads, [1, 16], 1, 1.0, MapsMut::packed(&mut data, 16));
        assert_eq!(data, [0.0; 16]);
    }
}
