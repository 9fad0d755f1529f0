//! A planned step allocates nothing: training and inference, with one thread, so that every kernel runs on the thread
//! whose allocations are counted.

use convnet::exec::{ConvChoice, Engine, Inference, Precision, Training, Update};
use convnet::weights;
use convnet::zoo::{ZooOptions, by_name};

/// Nets with chains and linear layers, with sums and shortcuts, with dense blocks, and with inceptions and auxiliary outputs.
const NETS: [(&str, [usize; 3]); 6] = [
    ("cnn", [1, 20, 20]),
    ("resnet20", [3, 32, 32]),
    ("resnet18", [3, 40, 40]),
    ("densenet_bc_100_12", [3, 16, 16]),
    ("googlenet", [3, 48, 48]),
    ("googlenet_v1", [3, 80, 80]),
];

#[test]
fn a_step_allocates_nothing() {
    for (name, input) in NETS {
        for conv in [ConvChoice::Direct, ConvChoice::Winograd] {
            for precision in [Precision::F32, Precision::Bf16] {
                let engine = Engine::new(1).unwrap().with_conv(conv).with_precision(precision);
                check(name, input, &engine);
            }
        }
    }
}

fn check(name: &str, input: [usize; 3], engine: &Engine) {
    let options = ZooOptions { input: Some(input), classes: Some(6), ..ZooOptions::default() };
    let net = by_name(name, &options).unwrap();
    let state = weights::init(&net, 0);
    let adam = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decoupled: true };
    let mut training = Training::new(&net, engine, 6, &state, adam, 0).unwrap();
    let lamb = Update::Lamb { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.01 };
    let mut adapted = Training::new(&net, engine, 6, &state, lamb, 0).unwrap();
    let mut inference = Inference::new(&net, engine, 6, &state).unwrap();
    let picture = net.input_shape().elements();
    let (images, labels) = (vec![0.5; 6 * picture], [0, 1, 2, 3, 4, 5]);
    let last = &net.nodes()[net.nodes().len() - 2].name;
    let builder = || Inference::builder(&net, &state).batch(6).taps([last, "input"]);
    let (mut tapped, mut gradients) = (builder().build(engine).unwrap(), builder().build_gradients(engine).unwrap());
    let (soft, by_output) = (vec![1.0 / 6.0; 36], vec![1.0; 36]);
    training.gradients(&images, &labels).unwrap();
    training.accumulate(&images, &labels).unwrap();
    training.average(0.9);
    let counted = allocation_counter::measure(|| {
        for pictures in [6, 4, 6] {
            training.step(&images[..pictures * picture], &labels[..pictures], 1e-3).unwrap();
            inference.run(&images[..pictures * picture], pictures).unwrap();
            training.gradients(&images[..pictures * picture], &labels[..pictures]).unwrap();
            training.accumulate(&images, &soft).unwrap();
            training.clip_grad_norm(1e-3);
            training.update(1e-3);
            training.average(0.9);
            adapted.update(1e-3);
            training.recompute_statistics(&images, 6, 1).unwrap();
            tapped.run(&images[..pictures * picture], pictures).unwrap();
            gradients.forward(&images, 6).unwrap();
            gradients.backward(&by_output).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0, "{name}: {counted:?}");
}
