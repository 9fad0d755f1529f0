//! Sums that give the gradients of biases, and sums of squares. Sums over pictures are in f64, in order, whatever the threads.

use crate::layout::{Maps, blocks};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// `out[o] = Σ_n dy[n, o]` over rows of `len` floats, a multiple of 16.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn sum_rows(isa: Isa, threads: &Threads, [batch, len]: [usize; 2], dy: Maps<'_>, out: &mut [f32]) {
    // A row is a picture of one pixel.
    sum_pixels(isa, threads, [batch, len, 1], dy, out);
}

/// `out[c] = Σ_n Σ_p dy[n, c, p]` over blocked maps of `[batch, channels, pixels]`.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn sum_pixels(isa: Isa, threads: &Threads, [batch, channels, pixels]: [usize; 3], dy: Maps<'_>, out: &mut [f32]) {
    let (blocks, plane) = (blocks(channels), pixels * LANES);
    let parts = Parts::new(&mut out[..blocks * LANES]);
    threads.run(blocks, &|block, _| {
        let mut totals = [0.0f64; LANES];
        for n in 0..batch {
            let sums = isa.run(PlaneSum { dy: &dy.data[n * dy.stride + block * plane..][..plane] });
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += f64::from(sum);
            }
        }
        // SAFETY: each task has a block of its own.
        let out = unsafe { parts.part(block * LANES..(block + 1) * LANES) };
        for (out, total) in out.iter_mut().zip(totals) {
            *out = total as f32;
        }
    });
}

struct PlaneSum<'a> {
    dy: &'a [f32],
}

impl Kernel for PlaneSum<'_> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let mut sums = [s.splat(0.0); 4];
        for pixels in self.dy.chunks(4 * LANES) {
            for (pixel, sum) in pixels.chunks_exact(LANES).zip(&mut sums) {
                *sum = s.add(*sum, s.read(pixel));
            }
        }
        s.lanes(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
    }
}

/// Floats whose squares one task sums.
const SQUARES: usize = 16 * 1024;

/// Partial sums of [`sum_of_squares`] over so many floats.
pub fn squares_len(floats: usize) -> usize {
    floats.div_ceil(SQUARES)
}

/// `Σ x²` in f64; the same for any number of threads. `parts` holds [`squares_len`] numbers, one for each task.
///
/// # Panics
/// When `x` is not whole lines of 16 floats, or `parts` is shorter than that.
pub fn sum_of_squares(isa: Isa, threads: &Threads, x: &[f32], parts: &mut [f64]) -> f64 {
    assert!(x.len().is_multiple_of(LANES));
    let parts = &mut parts[..squares_len(x.len())];
    let tasks = Parts::new(parts);
    threads.run(squares_len(x.len()), &|task, _| {
        let x = &x[task * SQUARES..((task + 1) * SQUARES).min(x.len())];
        let of_lines = |x| isa.run(Squares { x }).into_iter().map(f64::from).sum::<f64>();
        // SAFETY: each task has a part of its own.
        let part = unsafe { tasks.part(task..task + 1) };
        part[0] = x.chunks(64 * LANES).map(of_lines).sum();
    });
    parts.iter().sum()
}

struct Squares<'a> {
    x: &'a [f32],
}

impl Kernel for Squares<'_> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let mut sums = [s.splat(0.0); 4];
        for lines in self.x.chunks(4 * LANES) {
            for (line, sum) in lines.chunks_exact(LANES).zip(&mut sums) {
                let x = s.read(line);
                *sum = s.fma(x, x, *sum);
            }
        }
        s.lanes(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MapsMut, to_blocked};
    use crate::reference::gradcheck::pattern;

    #[test]
    fn squares_are_summed_in_one_order() {
        for len in [0, 16, 3 * SQUARES + 80] {
            let x: Vec<f32> = pattern(1, len).iter().map(|&x| x as f32).collect();
            let want: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
                let [one, three] = [1, 3].map(|threads| {
                    let mut parts = vec![f64::NAN; squares_len(len)];
                    sum_of_squares(isa, &Threads::new(threads).unwrap(), &x, &mut parts)
                });
                assert!((one - want).abs() <= 1e-6 * want, "{len}: {one} {want}");
                assert_eq!(one, three);
            }
        }
    }

    #[test]
    fn sums_each_channel() {
        let threads = Threads::new(2).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for [batch, channels, pixels] in [[1, 3, 1], [4, 20, 9], [2, 64, 30]] {
                let plain: Vec<f32> = pattern(1, batch * channels * pixels).iter().map(|&x| x as f32).collect();
                let mut blocked = vec![0.0; batch * blocks(channels) * LANES * pixels];
                let len = blocked.len() / batch;
                to_blocked(&threads, [batch, channels, pixels], &plain, MapsMut::packed(&mut blocked, len));
                let mut out = vec![f32::NAN; blocks(channels) * LANES];
                sum_pixels(isa, &threads, [batch, channels, pixels], Maps::packed(&blocked, len), &mut out);
                for (c, out) in out.iter().enumerate() {
                    let of_channel = (0..batch).flat_map(|n| {
                        let start = (n * channels + c) * pixels;
                        plain.get(start..start + pixels).filter(|_| c < channels).unwrap_or(&[])
                    });
                    let want: f64 = of_channel.map(|&x| f64::from(x)).sum();
                    assert!((f64::from(*out) - want).abs() < 1e-5);
                }
            }
        }
    }
}
