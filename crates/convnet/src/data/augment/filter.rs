//! Filters of neighbouring pixels: Pillow's sharpness (`ImageEnhance.Sharpness` over `ImageFilter.SMOOTH`, to the byte) and
//! torchvision's `gaussian_blur` of a tensor of bytes.

use super::color::blend;

/// From a blurred picture (factor 0) over the picture itself (1) to a sharper one (above 1).
pub(super) fn sharpness(planes: &[u8], [_, height, width]: [usize; 3], factor: f64, out: &mut [u8]) {
    out.copy_from_slice(planes);
    if height < 3 || width < 3 {
        return;
    }
    let factor = factor as f32;
    let (side, middle) = (1.0_f32 / 13.0, 5.0_f32 / 13.0);
    for (plane, out) in planes.chunks_exact(height * width).zip(out.chunks_exact_mut(height * width)) {
        for y in 1..height - 1 {
            let row = |y: usize| &plane[y * width..][..width];
            let (above, here, below) = (row(y - 1), row(y), row(y + 1));
            let out = &mut out[y * width..][..width];
            for x in 1..width - 1 {
                let three = |row: &[u8], weight: f32| {
                    f32::from(row[x - 1]) * side + f32::from(row[x]) * weight + f32::from(row[x + 1]) * side
                };
                // Pillow's order: the sum begins with the rounding, the row below comes first.
                let smooth = 0.5 + three(below, side) + three(here, middle) + three(above, side);
                out[x] = blend(smooth as u8, here[x], factor);
            }
        }
    }
}

/// Memory that a blur uses again.
#[derive(Debug, Default)]
pub(super) struct Blurring {
    kernels: [Vec<f32>; 2],
    padded: Vec<f32>,
    rows: Vec<f32>,
}

impl Blurring {
    /// Blurs with a Gaussian of `sigma` pixels, cut off at the kernel's size (width, height; odd). Pixels beyond the edge are
    /// reflected; the picture must be larger than half the kernel. Sums are in 32 bits like PyTorch's, in another order.
    pub(super) fn blur(
        &mut self,
        planes: &[u8],
        [_, height, width]: [usize; 3],
        kernel: [usize; 2],
        sigma: f64,
        out: &mut [u8],
    ) {
        let Blurring { kernels, padded, rows } = self;
        kernels.iter_mut().zip(kernel).for_each(|(weights, size)| gaussian(size, sigma, weights));
        let [across, down] = &*kernels;
        let (left, above) = (across.len() / 2, down.len() / 2);
        for (plane, out) in planes.chunks_exact(height * width).zip(out.chunks_exact_mut(height * width)) {
            rows.clear();
            for line in plane.chunks_exact(width) {
                padded.clear();
                padded.extend((0..width + 2 * left).map(|x| f32::from(line[reflected(x, left, width)])));
                let sum = |x: usize| across.iter().zip(&padded[x..]).map(|(weight, pixel)| weight * pixel).sum::<f32>();
                rows.extend((0..width).map(sum));
            }
            for (y, out) in out.chunks_exact_mut(width).enumerate() {
                padded.clear();
                padded.resize(width, 0.0);
                for (i, weight) in down.iter().enumerate() {
                    let row = &rows[reflected(y + i, above, height) * width..][..width];
                    padded.iter_mut().zip(row).for_each(|(sum, pixel)| *sum += weight * pixel);
                }
                out.iter_mut().zip(&*padded).for_each(|(out, sum)| *out = sum.round_ties_even() as u8);
            }
        }
    }
}

/// Index `i` of a line with `padding` reflected pixels before it, without the edge's own.
fn reflected(i: usize, padding: usize, length: usize) -> usize {
    let i = i.abs_diff(padding);
    if i < length { i } else { 2 * (length - 1) - i }
}

/// torchvision's `_get_gaussian_kernel1d`.
fn gaussian(size: usize, sigma: f64, weights: &mut Vec<f32>) {
    let half = (size as f32 - 1.0) * 0.5;
    weights.clear();
    weights.extend((0..size).map(|i| {
        let x = (i as f32 - half) / sigma as f32;
        libm::expf(-0.5 * (x * x))
    }));
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
}
