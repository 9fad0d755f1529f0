//! Networks of every family that later operations came with, at sizes that the naive reference can take.

use super::{Engine, check};
use crate::zoo::{ZooOptions, by_name};
use convnet_kernels::simd::Isa;

fn check_small(name: &str, input: [usize; 3]) {
    let net = by_name(name, &ZooOptions { input: Some(input), classes: Some(7), ..ZooOptions::default() }).unwrap();
    // Norms over a few pixels of three pictures enlarge rounding, and a ReLU that turns over moves a gradient by percents.
    check(&net, &Engine::with_isa(2, Isa::best()).unwrap(), 5e-2);
}

#[test]
fn small_families_are_run_right() {
    check_small("shufflenet_v2_x0_5", [3, 40, 36]);
    check_small("mobilenet_v3_small", [3, 36, 40]);
}

#[test]
#[ignore = "slow: naive runs of whole networks"]
fn every_family_is_run_right() {
    for name in
        ["squeezenet1_1", "mnasnet0_5", "mobilenet_v2", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf"]
    {
        check_small(name, [3, 68, 64]);
    }
    check_small("convnext_tiny", [3, 36, 32]);
    check_small("regnet_x_400mf", [3, 40, 36]);
    check_small("inception_v3", [3, 80, 76]);
}
