//! Single pictures of a data set as an augmentation leaves them, to be looked at.

use super::augment::{Augmentation, Augmenter, Given, RandomKey, Scratch};
use super::dataset::Making;
use super::resample::Source;
use super::{Dataset, Normalization};
use crate::Result;

/// Changes pictures as a [`Loader`](super::Loader) does before it normalises them.
pub(crate) struct Augmented<'a> {
    data: &'a Dataset,
    augmenter: Augmenter,
    /// Whether pictures are changed at their own size.
    at_own_size: bool,
    making: Making,
    scratch: Scratch,
}

impl<'a> Augmented<'a> {
    /// Nothing where the augmentation changes nothing.
    ///
    /// # Errors
    /// As [`Augmenter::new`].
    pub(crate) fn new(
        data: &'a Dataset,
        augmentation: &Augmentation,
        normalization: &Normalization,
    ) -> Result<Option<Augmented<'a>>> {
        if augmentation.0.is_empty() {
            return Ok(None);
        }
        let target @ [_, height, width] = data.shape();
        let at_own_size = augmentation.takes_any_size();
        let given = if at_own_size { Given::AnySize } else { Given::Size([height, width]) };
        let augmenter = Augmenter::new(augmentation, given, target, normalization)?;
        Ok(Some(Augmented { data, augmenter, at_own_size, making: Making::default(), scratch: Scratch::default() }))
    }

    /// The planes of the key's picture as they are after its changes, in the set's shape.
    ///
    /// # Errors
    /// A picture that cannot be read, or is too small for a transform.
    pub(crate) fn picture(&mut self, key: RandomKey) -> Result<Vec<u8>> {
        let Augmented { data, augmenter, at_own_size, making, scratch } = self;
        let mut planes = vec![0; data.shape().iter().product()];
        let work = |source: Source<'_>| augmenter.apply_to(source, key, scratch, &mut planes);
        match at_own_size {
            true => data.with_whole(key.index as usize, making, work)?,
            false => data.with_fitted(key.index as usize, making, work)?,
        }
        Ok(planes)
    }
}
