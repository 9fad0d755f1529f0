//! The weights with which training starts. Every tensor is drawn from a stream of its own, ChaCha8 keyed by the SHA-256
//! of seed and name, so a layer more or less changes no other. Normal numbers come from Box and Muller's formula over
//! a portable libm: the same seed gives the same bits on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::digest::hash_text;
use crate::net::Net;
use crate::ops::{Init, Parameter};
use crate::{StateDict, Tensor, parallel};

/// Elements that a thread draws at a time; even, because normal numbers come in pairs.
const PART: usize = 1 << 16;

/// First values of every parameter and buffer of the net, by full name, as their [`Init`] says.
///
/// ```
/// use convnet::{weights, zoo};
/// let net = zoo::cnn(&zoo::Cnn::default()).unwrap();
/// let weights = weights::init(&net, 0);
/// assert_eq!(weights["conv1.weight"].shape(), [32, 1, 3, 3]);
/// weights::check(&net, &weights).unwrap();
/// ```
pub fn init(net: &Net, seed: u64) -> StateDict {
    let parameters = net.parameters();
    let named = parameters.iter().map(|(name, _, parameter)| (name.as_str(), parameter));
    let tensors = init_parameters(&named.collect::<Vec<_>>(), seed);
    parameters.iter().map(|(name, ..)| name.clone()).zip(tensors).collect()
}

/// What [`init`] gives the parameter of that full name.
pub(super) fn init_parameter(name: &str, parameter: &Parameter, seed: u64) -> Tensor {
    init_parameters(&[(name, parameter)], seed).remove(0)
}

/// The same for several, on all cores.
fn init_parameters(parameters: &[(&str, &Parameter)], seed: u64) -> Vec<Tensor> {
    let mut tensors: Vec<_> = parameters.iter().map(|(_, parameter)| Tensor::zeros(parameter.shape.clone())).collect();
    let parts = parameters.iter().zip(&mut tensors).flat_map(|(&(name, parameter), tensor)| {
        let parts = tensor.data_mut().chunks_mut(PART).enumerate();
        parts.map(move |(index, values)| (name, parameter, index * PART, values))
    });
    parallel::for_each(
        parts.collect::<Vec<_>>(),
        || (),
        |(name, parameter, first, values), ()| match parameter.init {
            Init::Constant(value) => values.fill(value),
            Init::Normal { std } => normal(stream(seed, name, first), std, values),
            Init::Uniform { bound } | Init::Dirac { bound } => uniform(stream(seed, name, first), bound, values),
        },
    );
    for ((_, parameter), tensor) in parameters.iter().zip(&mut tensors) {
        if let Init::Dirac { .. } = parameter.init {
            dirac(tensor.data_mut(), &parameter.shape);
        }
    }
    tensors
}

/// The tensor's own random numbers, from those of its element `first` on, which is even: each element takes 64 bits, or two of
/// them 128.
fn stream(seed: u64, name: &str, first: usize) -> ChaCha8Rng {
    let mut hasher = Sha256::new_with_prefix(seed.to_le_bytes());
    hash_text(&mut hasher, name);
    let mut rng = ChaCha8Rng::from_seed(hasher.finalize().into());
    rng.set_word_pos(2 * first as u128);
    rng
}

/// A number in (0, 1] from 53 random bits.
fn fraction(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// Numbers from `-bound` to `bound`.
fn uniform(mut rng: ChaCha8Rng, bound: f64, values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = (bound * (2.0 * fraction(&mut rng) - 1.0)) as f32);
}

/// `[out, in, h, w]`: each of the first `in` filters hands on the channel of its number.
fn dirac(values: &mut [f32], shape: &[usize]) {
    let (outputs, inputs) = (shape[0], shape[1]);
    let kernel: usize = shape[2..].iter().product();
    let middle = match shape[2..] {
        [height, width] => height / 2 * width + width / 2,
        _ => 0,
    };
    for channel in 0..inputs.min(outputs) {
        let filter = &mut values[channel * inputs * kernel..][..inputs * kernel];
        filter.fill(0.0);
        filter[channel * kernel + middle] = 1.0;
    }
}

/// Normal numbers with mean 0 (Box and Muller 1958).
fn normal(mut rng: ChaCha8Rng, deviation: f64, values: &mut [f32]) {
    let mut uniform = || fraction(&mut rng);
    for pair in values.chunks_mut(2) {
        let radius = deviation * (-2.0 * libm::log(uniform())).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * uniform());
        let both = [(radius * cos) as f32, (radius * sin) as f32];
        pair.copy_from_slice(&both[..pair.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Window;
    use crate::ops::{Conv2d, InitRule, Op, Shape};
    use crate::weights::weights_sha256;
    use crate::zoo::{Cnn, cnn};

    #[test]
    fn he_normal_has_its_moments_and_constants_are_constant() {
        let weights = init(&cnn(&Cnn::default()).unwrap(), 7);
        let data = weights["linear1.weight"].data();
        let n = data.len() as f64;
        let moment = |power| data.iter().map(|&w| f64::from(w).powi(power)).sum::<f64>() / n;
        let variance = 2.0 / 3136.0;
        assert!(moment(1).abs() < 5.0 * (variance / n).sqrt(), "mean {}", moment(1));
        assert!((moment(2) / variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "variance {}", moment(2));
        assert!((moment(4) / (3.0 * variance * variance) - 1.0).abs() < 0.02, "kurtosis {}", moment(4));
        assert!(weights["linear1.bias"].data().iter().all(|&b| b == 0.0));
        assert!(weights["bn1.running_var"].data().iter().all(|&b| b == 1.0));
    }

    #[test]
    fn seed_and_name_alone_decide() {
        let build = |cdims: &[usize]| cnn(&Cnn { cdims: cdims.to_vec(), hdims: vec![16], ..Cnn::default() }).unwrap();
        let (small, large) = (init(&build(&[8]), 1), init(&build(&[8, 8]), 1));
        assert_eq!(small["conv1.weight"], large["conv1.weight"]);
        assert_ne!(small["conv1.weight"], init(&build(&[8]), 2)["conv1.weight"]);
        assert_ne!(large["conv1.weight"].data()[..72], large["conv2.weight"].data()[..72]);
    }

    /// `torch.nn.init.dirac_(weight[:weight.size(1)])`.
    #[test]
    fn the_first_filters_of_dirac_hand_their_channel_on() {
        for (outputs, kernel) in [(5, [3, 3]), (2, [3, 2]), (3, [1, 1])] {
            let mut net = Net::new("dirac", Shape::Map([3, 4, 4])).unwrap();
            let init = [InitRule::Dirac, InitRule::Constant(0.0)];
            let window = Window { kernel, ..Window::square(1) };
            net.then("conv", Op::Conv2d(Conv2d { init, ..Conv2d::new(outputs, window) })).unwrap();
            let weights = init_of(&net);
            let elements = kernel[0] * kernel[1];
            let middle = kernel[0] / 2 * kernel[1] + kernel[1] / 2;
            for (filter, values) in weights.chunks(3 * elements).enumerate() {
                if filter < 3 {
                    let expected = |i: usize| f32::from(u8::from(i == filter * elements + middle));
                    assert!(values.iter().enumerate().all(|(i, &value)| value == expected(i)), "{filter}: {values:?}");
                } else {
                    let bound = 1.0 / (3.0 * elements as f32).sqrt();
                    assert!(values.iter().all(|value| value.abs() <= bound && *value != 0.0));
                }
            }
        }
    }

    fn init_of(net: &Net) -> Vec<f32> {
        init(net, 3)["conv.weight"].data().to_vec()
    }

    #[test]
    fn the_bits_never_change() {
        let net = cnn(&Cnn { cdims: vec![4], hdims: vec![], ..Cnn::default() }).unwrap();
        let expected = "6845946177ad05256773215c35ef50c1b874e4f549f476fe84d1e6cf5108651a";
        assert_eq!(weights_sha256(&init(&net, 0)), expected);
    }
}
