//! Maps times one number for each channel of each picture, `y[n, c, p] = s[n, c] · x[n, c, p]`: the last step of
//! squeeze-and-excitation (Hu et al. 2018, section 3.1).
//!
//! `s` is maps of one pixel, `[n][c/16][16]`. Its gradient sums over a picture's pixels in f32, in an order that depends on
//! their number alone. Checked in f64 against the definition.

use crate::layout::{Maps, MapsMut, blocks, each_piece};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// `y = s · x` of maps `[batch, channels, pixels]`.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn forward(isa: Isa, threads: &Threads, shape: [usize; 3], x: Maps<'_>, s: Maps<'_>, y: MapsMut<'_>) {
    scale(isa, threads, shape, Some(x), s, y, false);
}

/// `y = s · y` of maps `[batch, channels, pixels]`; with the output's gradient in `y`, this is the gradient by `x`.
/// [`backward_in_place`] gives both gradients.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn in_place(isa: Isa, threads: &Threads, shape: [usize; 3], s: Maps<'_>, y: MapsMut<'_>) {
    scale(isa, threads, shape, None, s, y, false);
}

/// `dx = s · dy`: the gradient by `x`, added to what `dx` holds if asked.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn backward_data(
    isa: Isa,
    threads: &Threads,
    shape: [usize; 3],
    dy: Maps<'_>,
    s: Maps<'_>,
    dx: MapsMut<'_>,
    accumulate: bool,
) {
    scale(isa, threads, shape, Some(dy), s, dx, accumulate);
}

/// `ds[n, c] = Σ_p dy · x`: the gradient by `s`, added to what `ds` holds if asked.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn backward_scale(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    x: Maps<'_>,
    dy: Maps<'_>,
    ds: MapsMut<'_>,
    accumulate: bool,
) {
    let (blocks, plane) = (blocks(channels), pixels * LANES);
    assert!(ds.as_maps().hold(batch, blocks * LANES));
    let (stride, ds) = (ds.stride, Parts::new(ds.data));
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let [x, dy] = [x, dy].map(|maps| &maps.picture(n, blocks * plane)[block * plane..][..plane]);
        let at = n * stride + block * LANES;
        // SAFETY: each task has a block of its own.
        let ds = unsafe { ds.part(at..at + LANES) };
        isa.run(SumProducts { x, dy, ds, accumulate });
    });
}

/// Both gradients, that by `x` in the place of the output's: `ds[n, c] = Σ_p dy · x`, added to what `ds` holds if asked, then
/// `dy = s · dy`. A block's pixels are multiplied while they are in a cache.
///
/// # Panics
/// When a slice is shorter than its layout says.
#[expect(clippy::too_many_arguments, reason = "two inputs and their gradients")]
pub fn backward_in_place(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    x: Maps<'_>,
    s: Maps<'_>,
    dy: MapsMut<'_>,
    ds: MapsMut<'_>,
    accumulate: bool,
) {
    let (blocks, plane) = (blocks(channels), pixels * LANES);
    assert!(dy.as_maps().hold(batch, blocks * plane) && ds.as_maps().hold(batch, blocks * LANES));
    let [(dy_stride, dy), (ds_stride, ds)] = [dy, ds].map(|maps| (maps.stride, Parts::new(maps.data)));
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let x = &x.picture(n, blocks * plane)[block * plane..][..plane];
        let scales = s.picture(n, blocks * LANES);
        let [dy_at, ds_at] = [n * dy_stride + block * plane, n * ds_stride + block * LANES];
        // SAFETY: each task has a block of its own in both.
        let (dy, ds) = unsafe { (dy.part(dy_at..dy_at + plane), ds.part(ds_at..ds_at + LANES)) };
        isa.run(SumProducts { x, dy, ds, accumulate });
        isa.run(Scale { x: None, scales, first: block * plane, plane, y: dy, accumulate: false });
    });
}

/// `y = s · x`, where `x` is what `y` holds if nothing else is given; added to what `y` holds if asked.
fn scale(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    x: Option<Maps<'_>>,
    s: Maps<'_>,
    y: MapsMut<'_>,
    accumulate: bool,
) {
    let (blocks, plane) = (blocks(channels), pixels * LANES);
    each_piece(threads, [batch, blocks * plane], y, &|n, range, y| {
        let x = x.map(|x| &x.picture(n, range.end)[range.clone()]);
        isa.run(Scale { x, scales: s.picture(n, blocks * LANES), first: range.start, plane, y, accumulate });
    });
}

/// Scales a piece of a picture, which may begin and end anywhere between two pixels.
struct Scale<'a> {
    /// Nothing where it stands in `y`.
    x: Option<&'a [f32]>,
    /// The scales of all channels.
    scales: &'a [f32],
    /// Where the piece begins in the picture.
    first: usize,
    /// Floats of a block's pixels.
    plane: usize,
    y: &'a mut [f32],
    accumulate: bool,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scale { x, scales, first, plane, y, accumulate } = self;
        let mut at = 0;
        while at < y.len() {
            let block = (first + at) / plane;
            let end = ((block + 1) * plane - first).min(y.len());
            let scale = s.read(&scales[block * LANES..]);
            let y = &mut y[at..end];
            match x.map(|x| &x[at..end]) {
                None => scale_in_place(s, scale, y),
                Some(x) if accumulate => scale_from::<S, true>(s, scale, x, y),
                Some(x) => scale_from::<S, false>(s, scale, x, y),
            }
            at = end;
        }
    }
}

#[inline(always)]
fn scale_in_place<S: Simd>(s: S, scale: S::V, y: &mut [f32]) {
    for y in y.chunks_exact_mut(LANES) {
        s.write(y, s.mul(s.read(y), scale));
    }
}

#[inline(always)]
fn scale_from<S: Simd, const ADD: bool>(s: S, scale: S::V, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(LANES).zip(y.chunks_exact_mut(LANES)) {
        let x = s.read(x);
        s.write(y, if ADD { s.fma(x, scale, s.read(y)) } else { s.mul(x, scale) });
    }
}

/// Sums of products over a block's pixels.
struct SumProducts<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    ds: &'a mut [f32],
    accumulate: bool,
}

impl Kernel for SumProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        /// Sums that are kept apart, so that one need not wait for the other.
        const APART: usize = 8;
        let SumProducts { x, dy, ds, accumulate } = self;
        let mut sums = [s.splat(0.0); APART];
        let (x, x_rest) = x.as_chunks::<{ APART * LANES }>();
        let (dy, dy_rest) = dy.as_chunks::<{ APART * LANES }>();
        for (x, dy) in x.iter().zip(dy) {
            for i in 0..APART {
                sums[i] = s.fma(s.read(&x[i * LANES..]), s.read(&dy[i * LANES..]), sums[i]);
            }
        }
        for half in [4, 2, 1] {
            for i in 0..half {
                sums[i] = s.add(sums[i], sums[i + half]);
            }
        }
        let mut sum = sums[0];
        for (x, dy) in x_rest.chunks_exact(LANES).zip(dy_rest.chunks_exact(LANES)) {
            sum = s.fma(s.read(x), s.read(dy), sum);
        }
        s.write(ds, if accumulate { s.add(s.read(ds), sum) } else { sum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::gradcheck::{assert_gradient, dot, pattern};
    use crate::test_maps::{SHAPES, TestMaps, assert_close};

    fn naive_forward(pixels: usize, x: &[f64], s: &[f64]) -> Vec<f64> {
        (0..x.len()).map(|i| x[i] * s[i / pixels]).collect()
    }

    fn naive_backward_scale(pixels: usize, x: &[f64], dy: &[f64]) -> Vec<f64> {
        x.chunks_exact(pixels).zip(dy.chunks_exact(pixels)).map(|(x, dy)| dot(x, dy)).collect()
    }

    #[test]
    fn the_definitions_gradients() {
        let ([x, dy], s) = ([1, 2].map(|tag| pattern(tag, 42)), pattern(3, 6));
        assert_gradient("x", &x, &naive_forward(7, &dy, &s), |x| dot(&naive_forward(7, x, &s), &dy));
        assert_gradient("s", &s, &naive_backward_scale(7, &x, &dy), |s| dot(&naive_forward(7, &x, s), &dy));
    }

    #[test]
    fn agrees_with_the_definition_on_every_set() {
        let threads = Threads::new(2).unwrap();
        let sets = || Isa::NAMES.into_iter().filter_map(Isa::named);
        // The last shape has pieces that end within a block and hold several.
        for (isa, shape) in
            sets().flat_map(|isa| SHAPES.into_iter().chain([[2, 40, 500]]).map(move |shape| (isa, shape)))
        {
            let [batch, channels, pixels] = shape;
            let what = format!("{} {shape:?}", isa.name());
            let [x, dy] = [1, 2].map(|tag| pattern(tag, batch * channels * pixels));
            let s = pattern(3, batch * channels);
            let (want_y, want_dx) = (naive_forward(pixels, &x, &s), naive_forward(pixels, &dy, &s));
            let want_ds = naive_backward_scale(pixels, &x, &dy);
            let [x, dy] = [x, dy].map(|plain| TestMaps::of(shape, &plain, 16));
            let s_shape = [batch, channels, 1];
            let s = TestMaps::of(s_shape, &s, 32);

            let mut y = TestMaps::empty(shape, 48);
            forward(isa, &threads, shape, x.maps(), s.maps(), y.maps_mut());
            assert_close(&format!("{what}: y"), &y.plain(), &want_y, 1e-6);
            let mut same = x.clone();
            in_place(isa, &threads, shape, s.maps(), same.maps_mut());
            assert_eq!(same.plain(), y.plain(), "{what}: in place");

            let mut dx = TestMaps::empty(shape, 0);
            backward_data(isa, &threads, shape, dy.maps(), s.maps(), dx.maps_mut(), false);
            assert_close(&format!("{what}: dx"), &dx.plain(), &want_dx, 1e-6);
            backward_data(isa, &threads, shape, dy.maps(), s.maps(), dx.maps_mut(), true);
            let twice = want_dx.iter().map(|dx| 2.0 * dx).collect::<Vec<_>>();
            assert_close(&format!("{what}: dx added"), &dx.plain(), &twice, 1e-6);

            let mut ds = TestMaps::empty(s_shape, 16);
            backward_scale(isa, &threads, shape, x.maps(), dy.maps(), ds.maps_mut(), false);
            assert_close(&format!("{what}: ds"), &ds.plain(), &want_ds, 1e-5);
            let once = ds.plain();
            let (mut both, mut again) = (dy.clone(), ds.clone());
            backward_in_place(isa, &threads, shape, x.maps(), s.maps(), both.maps_mut(), again.maps_mut(), true);
            assert_close(&format!("{what}: dy becomes dx"), &both.plain(), &want_dx, 1e-6);
            backward_scale(isa, &threads, shape, x.maps(), dy.maps(), ds.maps_mut(), true);
            assert_eq!(again.plain(), ds.plain(), "{what}: ds beside dx");
            assert!(ds.plain().iter().zip(once).all(|(twice, once)| *twice == 2.0 * once), "{what}: ds added");
        }
    }
}
