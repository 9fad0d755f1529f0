//! Filters: named and own kernels that slide over a picture of any size.
//!
//! A [`Filter`] is a [`Kernel`] and how its answers are shown. A [`Pass`] slides filters of one size over a [`Bitmap`] in the
//! engine's own convolution: each colour by itself, or, with a matrix for each colour, all of them into one plane, as the first
//! convolution of a network does. [`of_layer`] takes the kernels of such a layer; [`sheet()`] draws many results beside the
//! original.
//!
//! Networks compute the *cross-correlation*, `y[p] = Σ_t x[p + t] · k[t]`, and call it convolution. The mathematical
//! *convolution*, `y[p] = Σ_t x[p - t] · k[t]`, is the same with the kernel turned by 180°. Symmetric kernels cannot tell
//! the two apart; a Sobel kernel's answers change their sign.
//!
//! [`Bitmap`]: crate::data::bitmap::Bitmap
//!
//! ```
//! use convnet::data::bitmap::Bitmap;
//! use convnet::exec::Engine;
//! use convnet::filter::{self, Pass, Placement};
//!
//! # fn main() -> convnet::Result<()> {
//! // Black on the left, white on the right.
//! let picture = Bitmap::new([1, 8, 8], (0..64).map(|i| if i % 8 < 4 { 0 } else { 255 }).collect())?;
//! let (engine, sobel) = (Engine::new(1)?, filter::find("sobel-x")?);
//! let pass = Pass::new(&engine, &picture, &[sobel], &Placement::default())?;
//! assert_eq!(pass.shape(), [1, 8, 8]);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "plots")]
mod demo;
mod kernel;
mod layer;
mod named;
mod pass;
#[cfg(feature = "plots")]
mod sheet;

#[cfg(feature = "plots")]
pub use demo::scene;
pub use kernel::{CHANNELS, Kernel, MAX_SIDE};
pub use layer::of_layer;
pub use named::{find, named};
pub use pass::{Border, MAX_STRIDE, Pass, Placement, Range};
#[cfg(feature = "plots")]
pub use sheet::{SheetOptions, sheet};

/// A kernel, and how its answers become pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// What it is called.
    pub name: String,
    /// What it does, in a few words; empty when nobody has said it.
    pub description: &'static str,
    /// Its numbers.
    pub kernel: Kernel,
    /// How its answers become pixels.
    pub rendering: Rendering,
}

impl Filter {
    /// A filter whose answers are shown as they are, or, when its weights add up to 0, by their size: then it answers 0
    /// on flat areas, and half of its answers elsewhere would be black.
    pub fn new(name: impl Into<String>, kernel: Kernel) -> Filter {
        let activation = if kernel.is_zero_sum() { Activation::Abs } else { Activation::None };
        let rendering = Rendering { activation, ..Rendering::default() };
        Filter { name: name.into(), description: "", kernel, rendering }
    }
}

/// How a sum becomes a pixel of 0 to 255: `round(activation(sum) + offset)`, where what is below is black and what is
/// above is white.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rendering {
    /// What happens to a sum first.
    pub activation: Activation,
    /// What is added then. With 128, 0 is grey, negative sums are darker and positive ones brighter.
    pub offset: f32,
    /// Whether what the activation gives is multiplied before by the largest number that takes none of a picture's sums
    /// below 0 or above 255; with an offset of 0, negative ones are black. The picture is filtered twice then.
    pub fit: bool,
}

impl Rendering {
    /// By what sums of this range are multiplied.
    fn scale(&self, [low, high]: Range) -> f32 {
        if !self.fit {
            return 1.0;
        }
        let [low, high] = match self.activation {
            Activation::None => [low, high],
            Activation::Relu => [low.max(0.0), high.max(0.0)],
            Activation::Abs => [0.0, high.max(-low)],
        };
        // Room for what is negative only where the offset leaves some.
        let dark = (low < 0.0 && self.offset > 0.0).then(|| self.offset / -low);
        let bright = (high > 0.0).then(|| (255.0 - self.offset).max(0.0) / high);
        let scale = [dark, bright].into_iter().flatten().reduce(f32::min);
        scale.filter(|scale| scale.is_finite()).unwrap_or(1.0)
    }
}

/// What happens to a sum before it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// Negative sums become 0, as after a network's convolution.
    Relu,
    /// The sum's size, whatever its sign.
    Abs,
}
