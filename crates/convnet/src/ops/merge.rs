//! Where branches meet: their sum (ResNet's shortcuts, He et al. 2016), maps times one number per channel (squeeze and
//! excitation, Hu et al. 2018) or their channels one after the other (inception and dense blocks, Szegedy et al. 2015, Huang et
//! al. 2017). Backward of the product keeps both inputs, of the others nothing.

use super::{Problem, Shape, expect_map};

/// All shapes are equal, and so is the sum's.
pub(super) fn add(inputs: &[Shape]) -> Result<Shape, Problem> {
    match inputs.iter().find(|&&shape| shape != inputs[0]) {
        None => Ok(inputs[0]),
        Some(other) => Err(format!("expected inputs of the same shape, got {} and {other}", inputs[0])),
    }
}

/// Maps `[C, H, W]` and a factor for each channel, `[C, 1, 1]`, give maps.
pub(super) fn mul(inputs: &[Shape]) -> Result<Shape, Problem> {
    let [channels, ..] = expect_map(inputs[0])?;
    match inputs[1] == Shape::Map([channels, 1, 1]) {
        true => Ok(inputs[0]),
        false => Err(format!("expected factors of {channels}x1x1 for maps of {}, got {}", inputs[0], inputs[1])),
    }
}

/// Heights and widths are equal, channels add up; features of vectors add up.
pub(super) fn concat(inputs: &[Shape]) -> Result<Shape, Problem> {
    let join = |joined: Shape, next: &Shape| match (joined, *next) {
        (Shape::Map([a, h, w]), Shape::Map([b, h2, w2])) if [h, w] == [h2, w2] => {
            Ok(Shape::Map([a.saturating_add(b), h, w]))
        }
        (Shape::Vector(a), Shape::Vector(b)) => Ok(Shape::Vector(a.saturating_add(b))),
        (_, next) => Err(format!("expected inputs of the same height and width, got {} and {next}", inputs[0])),
    };
    inputs[1..].iter().try_fold(inputs[0], join)
}
