//! Where branches meet, over blocked maps: sums, and channels that go from one tensor into a range of another's.

use crate::activation::{Activation, Clear, Function, WithFunction};
use crate::layout::{Maps, MapsMut, blocks, each_piece};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// `y = activation(a + b)` of maps `[batch, channels, pixels]`; rows of features are maps of one pixel.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn add(
    isa: Isa,
    threads: &Threads,
    shape: [usize; 3],
    [a, b]: [Maps<'_>; 2],
    activation: Activation,
    y: MapsMut<'_>,
) {
    add_pieces(isa, threads, shape, Some(a), b, activation, y);
}

/// `y = activation(y + x)` of maps `[batch, channels, pixels]`.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn accumulate(isa: Isa, threads: &Threads, shape: [usize; 3], x: Maps<'_>, activation: Activation, y: MapsMut<'_>) {
    add_pieces(isa, threads, shape, None, x, activation, y);
}

fn add_pieces(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    a: Option<Maps<'_>>,
    b: Maps<'_>,
    activation: Activation,
    y: MapsMut<'_>,
) {
    let ragged = activation.ragged(channels);
    each_piece(threads, [batch, blocks(channels) * pixels * LANES], y, &|n, range, y| {
        let [a, b] = [a, Some(b)].map(|maps| maps.map(|maps| &maps.picture(n, range.end)[range.clone()]));
        let clear = ragged.map(|ragged| Clear::piece(ragged, pixels, range.start));
        isa.run(Add { a, b: b.unwrap_or_default(), activation, clear, y });
    });
}

struct Add<'a> {
    /// Nothing where it stands in `y`.
    a: Option<&'a [f32]>,
    b: &'a [f32],
    activation: Activation,
    clear: Option<Clear>,
    y: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Add { a, b, activation, clear, y } = self;
        activation.with(AddWith { s, a, b, y });
        if let Some(clear) = clear {
            clear.run(s, y);
        }
    }
}

struct AddWith<'a, S> {
    s: S,
    a: Option<&'a [f32]>,
    b: &'a [f32],
    y: &'a mut [f32],
}

impl<S: Simd> WithFunction for AddWith<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let AddWith { s, a, b, y } = self;
        for (i, y) in y.chunks_exact_mut(LANES).enumerate() {
            let a = match a {
                Some(a) => s.read(&a[i * LANES..]),
                None => s.read(y),
            };
            s.write(y, function.value(s, s.add(a, s.read(&b[i * LANES..]))));
        }
    }
}

/// `y = x` in `batch` pictures of `len` floats.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn copy(threads: &Threads, shape: [usize; 2], x: Maps<'_>, y: MapsMut<'_>) {
    each_piece(threads, shape, y, &|n, range, y| y.copy_from_slice(&x.picture(n, range.end)[range]));
}

/// Channels that go from one tensor of maps to another.
#[derive(Clone, Copy, Debug)]
pub struct ChannelCopy {
    /// Pictures.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels that go.
    pub count: usize,
    /// The first of them in the source.
    pub from: usize,
    /// The first of them in the target.
    pub to: usize,
}

/// Lanes that go together: `len` of them, from a block and lane of the source to a lane of the target's block.
#[derive(Clone, Copy)]
struct Run {
    len: usize,
    source: [usize; 2],
    lane: usize,
}

impl ChannelCopy {
    /// The target's blocks that hold a copied channel.
    fn target_blocks(&self) -> Range<usize> {
        self.to / LANES..(self.to + self.count).div_ceil(LANES)
    }

    /// What a target's block takes, which comes from at most two blocks of the source.
    fn runs(&self, block: usize) -> [Run; 2] {
        let first = self.to.max(block * LANES);
        let last = (self.to + self.count).min((block + 1) * LANES);
        let start = self.from + first - self.to;
        let split = (LANES - start % LANES).min(last - first);
        let run = |skip: usize, len: usize| {
            let channel = start + skip;
            Run { len, source: [channel / LANES, channel % LANES], lane: first % LANES + skip }
        };
        [run(0, split), run(split, last - first - split)]
    }
}

/// Copies channels, or adds them to what the target holds. Other lanes of the target keep what they hold.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn copy_channels(threads: &Threads, copy: &ChannelCopy, x: Maps<'_>, y: MapsMut<'_>, accumulate: bool) {
    let plane = copy.pixels * LANES;
    let blocks = copy.target_blocks();
    assert!(y.as_maps().hold(copy.batch, blocks.end * plane));
    let (stride, parts) = (y.stride, Parts::new(y.data));
    threads.run(copy.batch * blocks.len(), &|task, _| {
        let (n, block) = (task / blocks.len(), blocks.start + task % blocks.len());
        let at = n * stride + block * plane;
        // SAFETY: each task has a block of its own.
        let target = unsafe { parts.part(at..at + plane) };
        for Run { len, source: [source, lane], lane: to } in copy.runs(block) {
            if len == 0 {
                continue;
            }
            let source = &x.data[n * x.stride + source * plane..][..plane];
            if len == LANES && !accumulate {
                target.copy_from_slice(source);
                continue;
            }
            for (from, y) in source.chunks_exact(LANES).zip(target.chunks_exact_mut(LANES)) {
                let pairs = from[lane..lane + len].iter().zip(&mut y[to..to + len]);
                pairs.for_each(|(&x, y)| *y = if accumulate { *y + x } else { x });
            }
        }
    });
}

/// Sets some blocks of each of `batch` pictures of `pixels` to 0.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn clear_blocks(threads: &Threads, [batch, pixels]: [usize; 2], blocks: Range<usize>, y: MapsMut<'_>) {
    let plane = pixels * LANES;
    assert!(y.as_maps().hold(batch, blocks.end * plane));
    let (stride, parts) = (y.stride, Parts::new(y.data));
    threads.run(batch * blocks.len(), &|task, _| {
        let at = task / blocks.len() * stride + (blocks.start + task % blocks.len()) * plane;
        // SAFETY: each task has a block of its own.
        unsafe { parts.part(at..at + plane) }.fill(0.0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{from_blocked, padding, to_blocked};
    use crate::reference::activation;
    use crate::reference::gradcheck::pattern;

    fn numbers(tag: u32, len: usize) -> Vec<f32> {
        pattern(tag, len).iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn sums_of_pictures_that_lie_apart() {
        let threads = Threads::new(2).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let (a, b) = (numbers(1, 3 * 48), numbers(2, 3 * 32));
            let mut y = vec![7.0; 3 * 40];
            let maps = [Maps::packed(&a, 48), Maps::packed(&b, 32)];
            let identity = Activation::Identity;
            add(isa, &threads, [3, 16, 2], maps, Activation::Relu, MapsMut::packed(&mut y, 40));
            accumulate(isa, &threads, [3, 16, 2], maps[1], identity, MapsMut::packed(&mut y, 40));
            for (i, &y) in y.iter().enumerate() {
                let (n, j) = (i / 40, i % 40);
                let want = if j < 32 { (a[n * 48 + j] + b[n * 32 + j]).max(0.0) + b[n * 32 + j] } else { 7.0 };
                assert_eq!(y, want);
            }
        }
    }

    #[test]
    fn sums_with_every_activation_keep_the_padding() {
        let threads = Threads::new(2).unwrap();
        let shapes = [[2, 20, 1_100], [1, 33, 6], [3, 70, 1], [2, 32, 5]];
        for (shape, after) in
            shapes.into_iter().flat_map(|shape| activation::all().into_iter().map(move |after| (shape, after)))
        {
            let [batch, channels, pixels] = shape;
            let len = blocks(channels) * LANES * pixels;
            let [a, b] = [1, 2].map(|tag| {
                let mut maps = vec![f32::NAN; batch * len];
                to_blocked(&threads, shape, &numbers(tag, batch * channels * pixels), MapsMut::packed(&mut maps, len));
                maps
            });
            for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
                let (mut y, mut z) = (vec![f32::NAN; a.len()], a.clone());
                let [a_maps, b_maps] = [&a, &b].map(|maps| Maps::packed(maps, len));
                add(isa, &threads, shape, [a_maps, b_maps], after, MapsMut::packed(&mut y, len));
                accumulate(isa, &threads, shape, b_maps, after, MapsMut::packed(&mut z, len));
                assert_eq!(y, z);
                assert!(padding(&y, channels, pixels).all(|y| y == 0.0), "{after:?} {shape:?}");
                let plain = |maps: &[f32]| {
                    let mut plain = vec![f32::NAN; batch * channels * pixels];
                    from_blocked(&threads, shape, Maps::packed(maps, len), &mut plain);
                    plain
                };
                for ((a, b), y) in plain(&a).into_iter().zip(plain(&b)).zip(plain(&y)) {
                    let want = activation::value(after, f64::from(a + b));
                    assert!((f64::from(y) - want).abs() <= 1e-6, "{after:?} of {}: {y}, want {want}", a + b);
                }
            }
        }
    }

    #[test]
    fn channels_go_where_they_should() {
        let threads = Threads::new(2).unwrap();
        let (batch, pixels) = (2, 5);
        for (of, into, count, from, to) in
            [(32, 64, 32, 0, 16), (12, 40, 12, 0, 24), (40, 12, 12, 24, 0), (20, 33, 17, 2, 15), (50, 50, 1, 49, 0)]
        {
            let [x_plain, y_plain] = [(1, of), (2, into)].map(|(tag, c)| numbers(tag, batch * c * pixels));
            let blocked = |plain: &[f32], channels: usize| {
                let len = blocks(channels) * LANES * pixels;
                let mut data = vec![0.0; batch * len];
                to_blocked(&threads, [batch, channels, pixels], plain, MapsMut::packed(&mut data, len));
                (data, len)
            };
            let ((x, x_len), (mut y, y_len)) = (blocked(&x_plain, of), blocked(&y_plain, into));
            let copy = ChannelCopy { batch, pixels, count, from, to };
            for accumulate in [false, true] {
                copy_channels(&threads, &copy, Maps::packed(&x, x_len), MapsMut::packed(&mut y, y_len), accumulate);
                let mut got = vec![0.0; y_plain.len()];
                from_blocked(&threads, [batch, into, pixels], Maps::packed(&y, y_len), &mut got);
                for (i, got) in got.into_iter().enumerate() {
                    let (n, c, p) = (i / pixels / into, i / pixels % into, i % pixels);
                    let copied = (to..to + count).contains(&c);
                    let times = if accumulate { 2.0 } else { 1.0 };
                    let want = if copied { times * x_plain[(n * of + c - to + from) * pixels + p] } else { y_plain[i] };
                    assert_eq!(got, want, "{copy:?} channel {c}");
                }
            }
        }
    }
}
