//! SHA-256 over tensors. Each tensor, in name order, gives: the name's length and its UTF-8 bytes, the number of axes and
//! their lengths, then the elements. Numbers are 64-bit and elements f32, all little-endian, so that no two different
//! state dicts give the same bytes.

use std::convert::Infallible;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::{StateDict, Tensor};

/// SHA-256 of names, shapes and elements, as 64 hexadecimal digits. Equal exactly when the tensors are bit-identical.
///
/// ```
/// use convnet::{StateDict, Tensor, weights::weights_sha256};
/// let weights = StateDict::from([("bias".to_owned(), Tensor::zeros([2]))]);
/// assert_eq!(weights_sha256(&weights), "516d6a9577ef82c4a8a50a3baf9fad93e2b1f9716b11eceaa6b9937fec44b452");
/// ```
pub fn weights_sha256(weights: &StateDict) -> String {
    let mut hasher = Sha256::new();
    hash_tensors(&mut hasher, weights.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    hex(hasher)
}

/// The SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// Adds tensors in the order given.
pub(super) fn hash_tensors<'a>(hasher: &mut Sha256, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) {
    for (name, tensor) in tensors {
        hash_text(hasher, name);
        hash_number(hasher, tensor.shape().len());
        tensor.shape().iter().for_each(|&length| hash_number(hasher, length));
        let Ok(()) = for_each_le_chunk(tensor.data(), |bytes| {
            hasher.update(bytes);
            Ok::<_, Infallible>(())
        });
    }
}

/// Adds a text with its length before it.
pub(super) fn hash_text(hasher: &mut Sha256, text: &str) {
    hash_number(hasher, text.len());
    hasher.update(text);
}

/// Adds a number as 64 bits.
pub(super) fn hash_number(hasher: &mut Sha256, number: usize) {
    hasher.update((number as u64).to_le_bytes());
}

/// The digest in hexadecimal.
pub(super) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hands on the little-endian bytes of `values`, some thousand elements at a time, until there is an error.
pub(super) fn for_each_le_chunk<E>(values: &[f32], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut buffer = [0; 16 << 10];
    values.chunks(buffer.len() / 4).try_for_each(|chunk| {
        let (bytes, _) = buffer[..4 * chunk.len()].as_chunks_mut::<4>();
        bytes.iter_mut().zip(chunk).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
        each(bytes.as_flattened())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(tensors: &[(&str, &[usize], &[f32])]) -> String {
        let tensor = |(name, shape, data): &(&str, &[usize], &[f32])| {
            (String::from(*name), Tensor::new(shape.to_vec(), data.to_vec()))
        };
        weights_sha256(&tensors.iter().map(tensor).collect())
    }

    #[test]
    fn names_shapes_and_bits_all_count() {
        let all = [
            hash(&[]),
            hash(&[("a", &[2], &[0.0, 1.0])]),
            hash(&[("b", &[2], &[0.0, 1.0])]),
            hash(&[("a", &[2, 1], &[0.0, 1.0])]),
            hash(&[("a", &[2], &[-0.0, 1.0])]),
            hash(&[("a", &[1], &[0.0]), ("b", &[1], &[1.0])]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn the_encoding_is_as_documented() {
        let mut bytes = Vec::new();
        let values: Vec<f32> = (0..10_000).map(|i| i as f32).collect();
        for number in [1u64, u64::from(b'w'), 2, 100, 100] {
            bytes.extend(if number == u64::from(b'w') { vec![b'w'] } else { number.to_le_bytes().to_vec() });
        }
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        assert_eq!(hash(&[("w", &[100, 100], &values)]), hex(Sha256::new_with_prefix(&bytes)));
    }
}
