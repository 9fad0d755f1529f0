//! Where branches meet: their sum (ResNet's shortcuts, He et al. 2016) or their channels one after the other (inception
//! and dense blocks, Szegedy et al. 2015, Huang et al. 2017). Backward keeps nothing.

use super::{Problem, Shape};

/// All shapes are equal, and so is the sum's.
pub(super) fn add(inputs: &[Shape]) -> Result<Shape, Problem> {
    match inputs.iter().find(|&&shape| shape != inputs[0]) {
        None => Ok(inputs[0]),
        Some(other) => Err(format!("expected inputs of the same shape, got {} and {other}", inputs[0])),
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
