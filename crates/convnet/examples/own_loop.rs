//! A training loop of one's own, with accumulated and clipped gradients: `cargo run --release --example own_loop`.

use convnet::prelude::*;

/// Batches whose gradients become one update.
const PARTS: usize = 4;

fn main() -> Result<()> {
    let mut net = Net::new("bars", Shape::Map([1, 8, 8]))?;
    net.then("conv", Conv2d::new(8, 3))?;
    net.then("norm", BatchNorm2d::default())?;
    net.then("relu", Activation::Relu)?;
    net.then("flatten", Op::Flatten)?;
    net.then("head", Linear::new(2))?;
    let update = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.05, decoupled: true };
    let weights = weights::init(&net, 0);
    let decayed = |name: &str| name == "conv.weight" || name == "head.weight";
    let group = |name: &str| if decayed(name) { ParameterGroup::default() } else { ParameterGroup::NO_DECAY };
    let builder = Training::builder(&net, &weights).batch(16).update(update).parameters(group);
    let mut training = builder.build(&Engine::new(0)?)?;
    for step in 0..50 {
        let parts = (0..PARTS).map(|part| bars(16 * (PARTS * step + part)));
        let losses = parts.map(|(images, labels)| Ok(training.accumulate(&images, &labels)?.loss));
        let loss = losses.sum::<Result<f64>>()? / PARTS as f64;
        training.scale_gradients(1.0 / PARTS as f32);
        let norm = training.clip_grad_norm(1.0);
        training.update(1e-2 * (1.0 - step as f32 / 50.0));
        println!("step {step}: loss {loss:.4}, norm of the gradients {norm:.3}");
    }
    Ok(())
}

/// 16 pictures of 8×8 with a horizontal bar (class 0) or a vertical one (class 1), and their classes.
fn bars(first: usize) -> (Vec<f32>, Vec<u32>) {
    let bright = |i: usize, at: usize| [at / 8, at % 8][i % 2] == i / 2 % 8;
    let picture = |i: usize| (0..64).map(move |at| f32::from(u8::from(bright(i, at))));
    ((first..first + 16).flat_map(picture).collect(), (first..first + 16).map(|i| (i % 2) as u32).collect())
}
