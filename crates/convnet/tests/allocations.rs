//! A planned step allocates nothing: training and inference, with one thread, so that every kernel runs on the thread
//! whose allocations are counted.

use convnet::exec::{ConvChoice, Engine, Inference, Precision, Training, Update};
use convnet::net::Net;
use convnet::zoo::{Cnn, cnn};
use convnet::{StateDict, weights};

#[test]
fn a_step_allocates_nothing() {
    let net = cnn(&Cnn { xdim: [1, 20, 20], hdims: vec![70, 30], ..Cnn::default() }).unwrap();
    let state = weights::init(&net, 0);
    for conv in [ConvChoice::Direct, ConvChoice::Winograd] {
        for precision in [Precision::F32, Precision::Bf16] {
            check(&net, &Engine::new(1).unwrap().with_conv(conv).with_precision(precision), &state);
        }
    }
}

fn check(net: &Net, engine: &Engine, state: &StateDict) {
    let adam = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decoupled: true };
    let mut training = Training::new(net, engine, 6, state, adam, 0).unwrap();
    let mut inference = Inference::new(net, engine, 6, state).unwrap();
    let (images, labels) = (vec![0.5; 6 * 400], [0, 1, 2, 3, 4, 5]);
    let counted = allocation_counter::measure(|| {
        for pictures in [6, 4, 6] {
            training.step(&images[..pictures * 400], &labels[..pictures], 1e-3).unwrap();
            inference.run(&images[..pictures * 400], pictures).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
