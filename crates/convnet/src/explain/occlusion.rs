//! Occlusion: what the output loses when windows of the picture are replaced. Windows lie as captum's: from the upper left corner,
//! a stride apart, the last one cut off at the border.

use super::Explainer;
use super::method::Baseline;
use crate::{Error, Result};

/// A side of a window that nobody has set, as a share of the picture's; its stride is half of it.
const SHARE: usize = 8;

impl Explainer {
    /// The loss of a class's output for each pixel, the same in all channels: a mean over the windows that cover it.
    pub(super) fn occlusion(
        &mut self,
        image: &[f32],
        class: usize,
        (window, stride, baseline): ([usize; 2], [usize; 2], Baseline),
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<f32>> {
        let [channels, height, width] = self.description.input();
        let size = [height, width];
        let (window, stride) = settings(size, window, stride)?;
        let places = |axis: usize| (size[axis] - window[axis]).div_ceil(stride[axis]) + 1;
        let corners: Vec<[usize; 2]> = (0..places(0))
            .flat_map(|row| (0..places(1)).map(move |column| [row, column]))
            .map(|[row, column]| [row * stride[0], column * stride[1]])
            .collect();
        let fill = baseline.picture(&self.description);
        let classes = self.description.classes().len();
        let whole = f64::from(self.outputs(image, 1)?[class]);
        let (mut sums, mut covers) = (vec![0.0_f64; height * width], vec![0.0_f64; height * width]);
        for (number, corners) in corners.chunks(self.at_once).enumerate() {
            if number > 0 && !goes_on() {
                return Err(Error::Stopped);
            }
            let mut images = image.repeat(corners.len());
            for (image, &corner) in images.chunks_exact_mut(channels * height * width).zip(corners) {
                for plane in (0..channels).map(|channel| channel * height * width) {
                    for row in rows(size, window, corner) {
                        let range = plane + row.start..plane + row.end;
                        image[range.clone()].copy_from_slice(&fill[range]);
                    }
                }
            }
            let outputs = self.outputs(&images, corners.len())?;
            for (output, &corner) in outputs.chunks_exact(classes).zip(corners) {
                let loss = whole - f64::from(output[class]);
                for place in rows(size, window, corner).flatten() {
                    sums[place] += loss;
                    covers[place] += 1.0;
                }
            }
        }
        Ok(sums.into_iter().zip(covers).map(|(sum, covers)| (sum / covers) as f32).collect())
    }
}

/// Window and stride, where 0 is what is usual for a picture of this size.
fn settings(size: [usize; 2], window: [usize; 2], stride: [usize; 2]) -> Result<([usize; 2], [usize; 2])> {
    let (mut set, mut apart) = ([0; 2], [0; 2]);
    for axis in 0..2 {
        set[axis] = if window[axis] == 0 { size[axis].div_ceil(SHARE) } else { window[axis] };
        apart[axis] = if stride[axis] == 0 { set[axis].div_ceil(2) } else { stride[axis] };
        if set[axis] > size[axis] {
            let expected = format!("a window of at most {}, the picture's side", size[axis]);
            return Err(Error::setting("occlusion", expected, set[axis]));
        }
        if apart[axis] > set[axis] {
            let expected =
                format!("a stride of at most {}, the window's side, so that windows cover the picture", set[axis]);
            return Err(Error::setting("occlusion", expected, apart[axis]));
        }
    }
    Ok((set, apart))
}

/// The places of a window in a plane, row by row.
fn rows(
    [height, width]: [usize; 2],
    window: [usize; 2],
    [top, left]: [usize; 2],
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let columns = left..(left + window[1]).min(width);
    (top..(top + window[0]).min(height)).map(move |row| row * width + columns.start..row * width + columns.end)
}
