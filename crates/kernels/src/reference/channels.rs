//! Channels in other places: `y[n, c] = x[n, sources[c]]` at every pixel, zeros where there is no source. Padding of channels,
//! slices and channel shuffle differ in their sources alone.

use super::{Float, expect_len};

/// The sources of a channel shuffle (Zhang et al. 2018, section 3.1): channels as a `groups × channels / groups` matrix,
/// transposed.
///
/// # Panics
/// When the groups do not divide the channels.
pub fn shuffled(channels: usize, groups: usize) -> Vec<Option<usize>> {
    assert!(channels.is_multiple_of(groups), "expected groups that divide {channels} channels, got {groups}");
    let of_group = channels / groups;
    (0..channels).map(|c| Some(c % groups * of_group + c / groups)).collect()
}

/// The output, `[batch, sources.len(), pixels]`, for `[batch, channels, pixels]`.
///
/// # Panics
/// When the input is not made of whole pictures, or a source is no channel.
pub fn forward<T: Float>([channels, pixels]: [usize; 2], input: &[T], sources: &[Option<usize>]) -> Vec<T> {
    expect_len("maps", input, input.len() / (channels * pixels) * channels * pixels);
    let zeros = vec![T::ZERO; pixels];
    let plane = |picture, source: &Option<usize>| source.map_or(&zeros[..], |c| plane(picture, c, pixels));
    let pictures = input.chunks_exact(channels * pixels);
    pictures.flat_map(|picture| sources.iter().flat_map(move |source| plane(picture, source))).copied().collect()
}

/// The gradient by the input: of every channel, the sum over the places that it went to.
///
/// # Panics
/// As [`forward`].
pub fn backward<T: Float>([channels, pixels]: [usize; 2], grad_output: &[T], sources: &[Option<usize>]) -> Vec<T> {
    let output = sources.len() * pixels;
    expect_len("gradient of the output", grad_output, grad_output.len() / output * output);
    let mut grad_input = vec![T::ZERO; grad_output.len() / output * channels * pixels];
    for (dx, dy) in grad_input.chunks_exact_mut(channels * pixels).zip(grad_output.chunks_exact(output)) {
        for (c, source) in sources.iter().enumerate().filter_map(|(c, source)| Some((c, (*source)?))) {
            let into = &mut dx[source * pixels..][..pixels];
            into.iter_mut().zip(plane(dy, c, pixels)).for_each(|(dx, dy)| *dx += *dy);
        }
    }
    grad_input
}

fn plane<T>(picture: &[T], channel: usize, pixels: usize) -> &[T] {
    &picture[channel * pixels..][..pixels]
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn known_values() {
        // What PyTorch's channel_shuffle gives: [0, 1, 2 | 3, 4, 5] in two groups, [0, 1 | 2, 3 | 4, 5] in three.
        let x: Vec<f32> = (0..6).map(|c| c as f32).collect();
        assert_eq!(forward([6, 1], &x, &shuffled(6, 2)), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(forward([6, 1], &x, &shuffled(6, 3)), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(forward([3, 2], &x, &[None, Some(2)]), [0.0, 0.0, 4.0, 5.0]);
    }

    #[test]
    fn gradients() {
        let (x, pixels) = (pattern(1, 2 * 6 * 5), 5);
        let twice = vec![Some(1), None, Some(1), Some(5)];
        for sources in [shuffled(6, 2), shuffled(6, 3), twice] {
            let dy = pattern(2, 2 * sources.len() * pixels);
            let found = backward([6, pixels], &dy, &sources);
            assert_gradient("x", &x, &found, |x| dot(&forward([6, pixels], x, &sources), &dy));
        }
    }
}
