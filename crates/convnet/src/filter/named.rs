//! The filters that have a name.
//!
//! Kernels are written as networks read them, for cross-correlation: the left number meets the left pixel. Derivatives
//! are positive where the picture grows brighter to the right or downwards. Sources: Gonzalez and Woods, "Digital Image
//! Processing", chapters 3 and 10 (smoothing, sharpening, Laplacian, Sobel, Prewitt, Roberts); Scharr, "Optimal operators
//! in digital image processing", 2000; emboss and outline as on setosa.io/ev/image-kernels.

use super::{Filter, Kernel, Rendering};
use crate::{Error, Result};

/// A row of the table: name, kernel, what it does.
struct Named(&'static str, &'static str, &'static str);

#[rustfmt::skip]
const NAMED: [Named; 23] = [
    Named("identity", "0 0 0; 0 1 0; 0 0 0", "leaves the picture as it is"),
    Named("box-blur", "1 1 1; 1 1 1; 1 1 1 / 9", "mean of 3x3 pixels"),
    Named("box-blur-5x5", "1 1 1 1 1; 1 1 1 1 1; 1 1 1 1 1; 1 1 1 1 1; 1 1 1 1 1 / 25", "mean of 5x5 pixels"),
    Named("gaussian-blur", "1 2 1; 2 4 2; 1 2 1 / 16", "weighted mean, the middle counts most"),
    Named("gaussian-blur-5x5", "1 4 6 4 1; 4 16 24 16 4; 6 24 36 24 6; 4 16 24 16 4; 1 4 6 4 1 / 256", "the same over 5x5 pixels"),
    Named("motion-blur", "1 0 0 0 0; 0 1 0 0 0; 0 0 1 0 0; 0 0 0 1 0; 0 0 0 0 1 / 5", "mean along a diagonal, as of a moving camera"),
    Named("sharpen", "0 -1 0; -1 5 -1; 0 -1 0", "the picture plus its edges"),
    Named("sharpen-more", "-1 -1 -1; -1 9 -1; -1 -1 -1", "the same, with the diagonals"),
    Named("unsharp-mask", "-1 -4 -6 -4 -1; -4 -16 -24 -16 -4; -6 -24 476 -24 -6; -4 -16 -24 -16 -4; -1 -4 -6 -4 -1 / 256", "twice the picture minus its blur"),
    Named("emboss", "-2 -1 0; -1 1 1; 0 1 2", "the picture as if lit from a corner"),
    Named("relief", "-1 -1 0; -1 0 1; 0 1 1", "slopes along the diagonal, on grey"),
    Named("outline", "-1 -1 -1; -1 8 -1; -1 -1 -1", "what differs from its eight neighbours"),
    Named("edge", "0 -1 0; -1 4 -1; 0 -1 0", "what differs from its four neighbours"),
    Named("laplacian", "0 1 0; 1 -4 1; 0 1 0", "second derivative: both sides of an edge"),
    Named("laplacian-of-gaussian", "0 0 1 0 0; 0 1 2 1 0; 1 2 -16 2 1; 0 1 2 1 0; 0 0 1 0 0", "the same of the blurred picture"),
    Named("sobel-x", "-1 0 1; -2 0 2; -1 0 1", "upright edges (derivative along x)"),
    Named("sobel-y", "-1 -2 -1; 0 0 0; 1 2 1", "level edges (derivative along y)"),
    Named("prewitt-x", "-1 0 1; -1 0 1; -1 0 1", "upright edges"),
    Named("prewitt-y", "-1 -1 -1; 0 0 0; 1 1 1", "level edges"),
    Named("scharr-x", "-3 0 3; -10 0 10; -3 0 3 / 4", "upright edges, nearly the same in every direction"),
    Named("scharr-y", "-3 -10 -3; 0 0 0; 3 10 3 / 4", "level edges, nearly the same in every direction"),
    Named("roberts-x", "1 0; 0 -1", "edges along one diagonal"),
    Named("roberts-y", "0 1; -1 0", "edges along the other diagonal"),
];

/// Every filter that has a name, in the order of a lesson: smoothing, sharpening, relief, edges.
pub fn named() -> Vec<Filter> {
    NAMED.iter().map(filter).collect()
}

/// The filter of that name.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name when there is none.
pub fn find(name: &str) -> Result<Filter> {
    let unknown = || Error::unknown("filter", name, NAMED.iter().map(|named| named.0));
    NAMED.iter().find(|named| named.0 == name).map(filter).ok_or_else(unknown)
}

fn filter(&Named(name, kernel, description): &Named) -> Filter {
    let kernel = Kernel::parse(kernel).expect("the table's kernels are tested");
    let filter = Filter { description, ..Filter::new(name, kernel) };
    match name {
        "relief" => Filter { rendering: Rendering { offset: 128.0, ..Rendering::default() }, ..filter },
        // One side of each edge alone, as drawn by a pen.
        "outline" | "edge" => Filter { rendering: Rendering::default(), ..filter },
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let filters = named();
        for (i, filter) in filters.iter().enumerate() {
            assert_eq!(find(&filter.name).unwrap(), *filter);
            assert!(filters[..i].iter().all(|other| other.name != filter.name && other.kernel != filter.kernel));
            // Smoothing and sharpening keep a flat area as it is, derivatives answer 0 there.
            let sum: f32 = filter.kernel.weights().iter().sum();
            assert!((sum - 1.0).abs() < 1e-6 || filter.kernel.is_zero_sum(), "{}: {sum}", filter.name);
        }
    }

    #[test]
    fn a_mistyped_name_has_a_suggestion() {
        assert!(find("sobelx").unwrap_err().to_string().contains("did you mean 'sobel-x'?"));
        assert!(find("instagram").unwrap_err().to_string().contains("known are identity, box-blur"));
    }
}
