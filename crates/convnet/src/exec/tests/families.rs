//! Networks of families that later operations came with, at sizes that the naive reference can take. Logits of all families and
//! gradients are compared with PyTorch's in `tests/zoo.rs`, with weights that keep numbers small: here weights are noise, and
//! deeper nets enlarge rounding beyond anything that could be compared.

use super::{Engine, check};
use crate::zoo::{ZooOptions, by_name};
use convnet_kernels::simd::Isa;

#[test]
fn small_families_are_run_right() {
    let engine = Engine::with_isa(2, Isa::best()).unwrap();
    for (name, input) in [("shufflenet_v2_x0_5", [3, 40, 36]), ("mobilenet_v3_small", [3, 36, 40])] {
        let options = ZooOptions { input: Some(input), classes: Some(7), ..ZooOptions::default() };
        check(&by_name(name, &options).unwrap(), &engine, 5e-2);
    }
}
