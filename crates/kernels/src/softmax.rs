//! Softmax over the channels of each pixel of blocked maps; a vector of features is a map of one pixel.
//!
//! `y = e^(x - max) / Σ e^(x - max)`, where maximum and sum go over a pixel's channels; that `x - max` is at most 0 keeps
//! every exponential finite. The gradient follows from the output: `dx = y · (dy - Σ dy · y)`. Checked in f64 against the
//! definition.

use crate::layout::{Maps, MapsMut};
use crate::pixel_tiles::{Columns, Tile, each_tile, max_lanes, source, sum_lanes};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// The softmax of maps `[batch, channels, pixels]`; without `x` of those that `y` holds.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn forward(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    x: Option<Maps<'_>>,
    y: MapsMut<'_>,
) {
    let columns = Columns { channels, pixels };
    assert!(y.as_maps().hold(batch, columns.len()));
    let (stride, y) = (y.stride, Parts::new(y.data));
    columns.each_task(threads, batch, &|_, pictures, pixels| {
        isa.run(Forward { columns, x, y, stride, pictures, pixels });
    });
}

/// `dx`: the gradient of the input from the output `y` and its gradient `dy`, added to what `dx` holds if asked. Without
/// `dy`, `dx` holds it, and its own gradient replaces it.
///
/// # Panics
/// When a slice is shorter than its layout says, or when a gradient is to be added to the `dy` that `dx` holds.
pub fn backward(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    y: Maps<'_>,
    dy: Option<Maps<'_>>,
    dx: MapsMut<'_>,
    accumulate: bool,
) {
    let columns = Columns { channels, pixels };
    assert!(dx.as_maps().hold(batch, columns.len()));
    assert!(!accumulate || dy.is_some(), "a gradient cannot be added to that of the output");
    let (stride, dx) = (dx.stride, Parts::new(dx.data));
    columns.each_task(threads, batch, &|_, pictures, pixels| {
        isa.run(Backward { columns, y, dy, dx, stride, accumulate, pictures, pixels });
    });
}

/// `e^x` of numbers up to 0.
#[inline(always)]
fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let mut lanes = s.lanes(x);
    for lane in &mut lanes {
        *lane = lane.exp();
    }
    s.read(&lanes)
}

struct Forward<'a> {
    columns: Columns,
    x: Option<Maps<'a>>,
    y: Parts<'a, f32>,
    stride: usize,
    pictures: Range<usize>,
    pixels: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { columns, stride, .. } = self;
        let len = columns.len();
        for n in self.pictures {
            let y = self.y.pointer(n * stride..n * stride + len);
            let x = source(self.x, n, len, y);
            each_tile(s, self.pixels.clone(), &mut ForwardTile { columns, x, y });
        }
    }
}

/// A task of one picture: `x` and `y` point at [`Columns::len`] floats, of which a task alone has its pixels.
struct ForwardTile {
    columns: Columns,
    x: *const f32,
    y: *mut f32,
}

impl Tile for ForwardTile {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(&mut self, s: S, pixel: usize) {
        let ForwardTile { columns, x, y } = *self;
        let (zero, least) = (s.splat(0.0), s.splat(f32::NEG_INFINITY));
        let mut largest = [least; N];
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            for i in 0..N {
                // SAFETY: here and below, the pixels are inside the picture, and nobody else uses them.
                let x = unsafe { s.load(x.add(at + i * LANES)) };
                largest[i] = s.max(largest[i], s.select(present, x, least));
            }
        }
        let largest = s.lanes(max_lanes(s, &largest));
        let mut sums = [zero; N];
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            for i in 0..N {
                // SAFETY: as above.
                unsafe {
                    let x = s.load(x.add(at + i * LANES));
                    let power = s.select(present, exp(s, s.sub(x, s.splat(largest[i]))), zero);
                    sums[i] = s.add(sums[i], power);
                    s.store(y.add(at + i * LANES), power);
                }
            }
        }
        let inverse = s.lanes(s.div(s.splat(1.0), sum_lanes(s, &sums)));
        for block in 0..columns.blocks() {
            let at = columns.place(block, pixel);
            for i in 0..N {
                // SAFETY: as above.
                unsafe {
                    let power = s.load(y.add(at + i * LANES));
                    s.store(y.add(at + i * LANES), s.mul(power, s.splat(inverse[i])));
                }
            }
        }
    }
}

struct Backward<'a> {
    columns: Columns,
    y: Maps<'a>,
    dy: Option<Maps<'a>>,
    dx: Parts<'a, f32>,
    stride: usize,
    accumulate: bool,
    pictures: Range<usize>,
    pixels: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { columns, stride, accumulate, .. } = self;
        let len = columns.len();
        for n in self.pictures {
            let dx = self.dx.pointer(n * stride..n * stride + len);
            let (y, dy) = (self.y.picture(n, len).as_ptr(), source(self.dy, n, len, dx));
            each_tile(s, self.pixels.clone(), &mut BackwardTile { columns, y, dy, dx, accumulate });
        }
    }
}

/// A task of one picture: `y`, `dy` and `dx` point at [`Columns::len`] floats, of which a task alone has its pixels.
struct BackwardTile {
    columns: Columns,
    y: *const f32,
    dy: *const f32,
    dx: *mut f32,
    accumulate: bool,
}

impl Tile for BackwardTile {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(&mut self, s: S, pixel: usize) {
        let BackwardTile { columns, y, dy, dx, accumulate } = *self;
        let zero = s.splat(0.0);
        let mut sums = [zero; N];
        for block in 0..columns.blocks() {
            let at = columns.place(block, pixel);
            for i in 0..N {
                // SAFETY: here and below, the pixels are inside the picture, and nobody else uses them.
                let (y, dy) = unsafe { (s.load(y.add(at + i * LANES)), s.load(dy.add(at + i * LANES))) };
                sums[i] = s.fma(y, dy, sums[i]);
            }
        }
        let sums = s.lanes(sum_lanes(s, &sums));
        for block in 0..columns.blocks() {
            let at = columns.place(block, pixel);
            for i in 0..N {
                let at = at + i * LANES;
                // SAFETY: as above.
                unsafe {
                    let gradient = s.mul(s.load(y.add(at)), s.sub(s.load(dy.add(at)), s.splat(sums[i])));
                    let before = if accumulate { s.load(dx.add(at)) } else { zero };
                    s.store(dx.add(at), s.add(before, gradient));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::gradcheck::{assert_gradient, dot, pattern};
    use crate::test_maps::{SHAPES, TestMaps, assert_close};

    /// Softmax over each pixel's channels, without a maximum.
    fn naive_forward([_, channels, pixels]: [usize; 3], x: &[f64]) -> Vec<f64> {
        let total =
            |n: usize, pixel: usize| (0..channels).map(|c| x[(n * channels + c) * pixels + pixel].exp()).sum::<f64>();
        (0..x.len()).map(|i| x[i].exp() / total(i / pixels / channels, i % pixels)).collect()
    }

    fn naive_backward([_, channels, pixels]: [usize; 3], y: &[f64], dy: &[f64]) -> Vec<f64> {
        let gradient = |i: usize| {
            let (n, pixel) = (i / pixels / channels, i % pixels);
            let product = |c: usize| y[(n * channels + c) * pixels + pixel] * dy[(n * channels + c) * pixels + pixel];
            y[i] * (dy[i] - (0..channels).map(product).sum::<f64>())
        };
        (0..y.len()).map(gradient).collect()
    }

    #[test]
    fn the_definitions_gradient() {
        let shape = [2, 5, 3];
        let [x, dy] = [1, 2].map(|tag| pattern(tag, 30));
        let dx = naive_backward(shape, &naive_forward(shape, &x), &dy);
        assert_gradient("x", &x, &dx, |x| dot(&naive_forward(shape, x), &dy));
    }

    #[test]
    fn agrees_with_the_definition_on_every_set() {
        let threads = Threads::new(2).unwrap();
        let shapes = || SHAPES.into_iter().chain([[2, 21, 2000], [3, 1000, 1]]);
        for (isa, shape) in
            Isa::NAMES.into_iter().filter_map(Isa::named).flat_map(|isa| shapes().map(move |shape| (isa, shape)))
        {
            let what = format!("{} {shape:?}", isa.name());
            let len = shape.into_iter().product();
            let x: Vec<f64> = pattern(1, len).into_iter().map(|x| 8.0 * x).collect();
            let dy = pattern(2, len);
            let want_y = naive_forward(shape, &x);
            let want_dx = naive_backward(shape, &want_y, &dy);
            let (x, dy) = (TestMaps::of(shape, &x, 16), TestMaps::of(shape, &dy, 48));

            let mut y = TestMaps::empty(shape, 32);
            forward(isa, &threads, shape, Some(x.maps()), y.maps_mut());
            assert_close(&format!("{what}: y"), &y.plain(), &want_y, 1e-6);
            let mut in_place = x.clone();
            forward(isa, &threads, shape, None, in_place.maps_mut());
            assert_eq!(in_place.plain(), y.plain(), "{what}: in place");

            let mut dx = TestMaps::empty(shape, 0);
            backward(isa, &threads, shape, y.maps(), Some(dy.maps()), dx.maps_mut(), false);
            assert_close(&format!("{what}: dx"), &dx.plain(), &want_dx, 2e-6);
            let mut over = dy.clone();
            backward(isa, &threads, shape, y.maps(), None, over.maps_mut(), false);
            assert_eq!(over.plain(), dx.plain(), "{what}: over dy");
            let once = dx.plain();
            backward(isa, &threads, shape, y.maps(), Some(dy.maps()), dx.maps_mut(), true);
            assert!(dx.plain().iter().zip(once).all(|(twice, once)| *twice == 2.0 * once), "{what}: added");
        }
    }

    #[test]
    fn large_numbers_are_no_problem_and_a_nan_is_not_hidden() {
        let threads = Threads::new(1).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let mut maps = TestMaps::of([1, 3, 1], &[1e30, -1e30, 1e30], 0);
            forward(isa, &threads, [1, 3, 1], None, maps.maps_mut());
            assert_eq!(maps.plain(), [0.5, 0.0, 0.5], "{}", isa.name());
            let mut maps = TestMaps::of([1, 3, 1], &[f64::NEG_INFINITY, -1000.0, f64::NEG_INFINITY], 0);
            forward(isa, &threads, [1, 3, 1], None, maps.maps_mut());
            assert_eq!(maps.plain(), [0.0, 1.0, 0.0], "{}", isa.name());
            for place in 0..20 {
                let mut plain = [1.0; 20];
                plain[place] = f64::NAN;
                let mut maps = TestMaps::of([1, 20, 1], &plain, 0);
                forward(isa, &threads, [1, 20, 1], None, maps.maps_mut());
                assert!(maps.maps().picture(0, 32)[..20].iter().all(|y| y.is_nan()), "{} {place}", isa.name());
            }
        }
    }
}
