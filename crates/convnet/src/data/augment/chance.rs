//! Transforms that have no other setting than how probable they are.

use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::Change;
use super::value;

/// For each: what it does, its type, its probability unless set, and its step.
macro_rules! chances {
    ($($(#[$doc:meta])* $name:ident, $p:literal, $change:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Probability.
            pub p: f64,
        }

        impl Default for $name {
            fn default() -> $name {
                $name { p: $p }
            }
        }

        impl Settings for $name {
            fn check(&self) -> Result<(), String> {
                value::probability(self.p)
            }

            fn draw(&self, _frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> Result<(), String> {
                if draw.chance(self.p) {
                    steps.push($change);
                }
                Ok(())
            }
        }
    )*};
}

chances! {
    /// Left and right exchanged: torchvision's `RandomHorizontalFlip`.
    HorizontalFlip, 0.5, Change::HorizontalFlip;
    /// Top and bottom exchanged: torchvision's `RandomVerticalFlip`.
    VerticalFlip, 0.5, Change::VerticalFlip;
    /// Every channel replaced by the luma: torchvision's `RandomGrayscale`.
    Grayscale, 0.1, Change::Grayscale;
    /// Equally frequent values in each channel: torchvision's `RandomEqualize`.
    Equalize, 0.5, Change::Equalize;
    /// Each channel stretched to all values: torchvision's `RandomAutocontrast`.
    Autocontrast, 0.5, Change::Autocontrast;
    /// The negative: torchvision's `RandomInvert`.
    Invert, 0.5, Change::Invert;
}
