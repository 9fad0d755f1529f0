//! A planned step allocates nothing: training and inference, with one thread, so that every kernel runs on the thread
//! whose allocations are counted.

use convnet::exec::{ConvChoice, Engine, Inference, MuonRate, Precision, Training, Update};
use convnet::weights;
use convnet::zoo::{ZooOptions, by_name};

/// Most pictures of a step.
const BATCH: usize = 3;

#[test]
fn chains_linear_layers_and_shortcuts_allocate_nothing() {
    every_way(&[("cnn", [1, 20, 20]), ("resnet20", [3, 32, 32]), ("resnet18", [3, 40, 40])]);
}

#[test]
fn dense_blocks_inceptions_and_auxiliary_outputs_allocate_nothing() {
    every_way(&[("densenet_bc_100_12", [3, 16, 16]), ("googlenet", [3, 48, 48]), ("googlenet_v1", [3, 80, 80])]);
}

#[test]
fn depthwise_convolutions_products_per_channel_shuffles_and_layer_norms_allocate_nothing() {
    for (name, input) in [
        ("mobilenet_v3_small", [3, 48, 48]),
        ("efficientnet_b0", [3, 40, 40]),
        ("shufflenet_v2_x0_5", [3, 48, 48]),
        ("regnet_y_400mf", [3, 40, 40]),
        ("convnext_tiny", [3, 32, 32]),
    ] {
        check(name, input, &Engine::new(1).unwrap());
    }
}

#[test]
fn steps_of_muon_allocate_nothing() {
    let net = by_name("resnet20", &ZooOptions::default()).unwrap();
    let (rate, betas, eps) = (MuonRate::Original, [0.9, 0.999], 1e-8);
    let muon = Update::Muon { rate, momentum: 0.95, nesterov: true, weight_decay: 0.1, adamw_lr: 1.0, betas, eps };
    let engine = Engine::new(1).unwrap();
    let mut training = Training::new(&net, &engine, 1, &weights::init(&net, 0), muon, 0).unwrap();
    let images = vec![0.5; net.input_shape().elements()];
    let counted = allocation_counter::measure(|| {
        training.step(&images, &[1], 1e-3).unwrap();
    });
    assert_eq!(counted.count_total, 0);
}

/// With every way of computing convolutions, in both precisions.
fn every_way(nets: &[(&str, [usize; 3])]) {
    for &(name, input) in nets {
        for conv in [ConvChoice::Direct, ConvChoice::Winograd] {
            for precision in [Precision::F32, Precision::Bf16] {
                check(name, input, &Engine::new(1).unwrap().with_conv(conv).with_precision(precision));
            }
        }
    }
}

fn check(name: &str, input: [usize; 3], engine: &Engine) {
    let options = ZooOptions { input: Some(input), classes: Some(6), ..ZooOptions::default() };
    let net = by_name(name, &options).unwrap();
    let state = weights::init(&net, 0);
    let adam = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decoupled: true };
    let mut training = Training::new(&net, engine, BATCH, &state, adam, 0).unwrap();
    let lamb = Update::Lamb { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.01 };
    let mut adapted = Training::new(&net, engine, BATCH, &state, lamb, 0).unwrap();
    let mut inference = Inference::new(&net, engine, BATCH, &state).unwrap();
    let picture = net.input_shape().elements();
    let (images, labels) = (vec![0.5; BATCH * picture], [0, 1, 5]);
    let last = &net.nodes()[net.nodes().len() - 2].name;
    let builder = || Inference::builder(&net, &state).batch(BATCH).taps([last, "input"]);
    let (mut tapped, mut gradients) = (builder().build(engine).unwrap(), builder().build_gradients(engine).unwrap());
    let (soft, by_output) = (vec![1.0 / 6.0; 6 * BATCH], vec![1.0; 6 * BATCH]);
    training.gradients(&images, &labels).unwrap();
    training.accumulate(&images, &labels).unwrap();
    training.average(0.9);
    let counted = allocation_counter::measure(|| {
        for pictures in [BATCH, 2, BATCH] {
            training.step(&images[..pictures * picture], &labels[..pictures], 1e-3).unwrap();
            inference.run(&images[..pictures * picture], pictures).unwrap();
            training.gradients(&images[..pictures * picture], &labels[..pictures]).unwrap();
            training.accumulate(&images, &soft).unwrap();
            training.clip_grad_norm(1e-3);
            training.update(1e-3);
            training.average(0.9);
            adapted.update(1e-3);
            training.recompute_statistics(&images, BATCH, 1).unwrap();
            tapped.run(&images[..pictures * picture], pictures).unwrap();
            gradients.forward(&images, BATCH).unwrap();
            gradients.backward(&by_output).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0, "{name}: {counted:?}");
}
