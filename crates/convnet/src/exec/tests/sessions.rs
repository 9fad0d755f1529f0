//! What sessions share, and what a loop of one's own can change.

use super::nets::{inception, nets, random_net, residual};
use super::{ADAM, ROUNDING, assert_close, largest_error, numbers, size, state};
use crate::exec::reference::{Mode, Reference};
use crate::exec::{Engine, Gradients, Inference, ParameterGroup, Precision, Training, Update};
use crate::net::Net;
use crate::{StateDict, Tensor, weights, zoo};
use convnet_kernels::random;
use convnet_kernels::reference::optimizer::{Lamb, Moments};
use convnet_kernels::simd::Isa;

const SGD: Update = Update::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.1 };

/// Sessions go from thread to thread; this compiles or does not.
#[test]
fn sessions_can_be_sent() {
    fn sent<T: Send + std::fmt::Debug + 'static>() {}
    sent::<Inference>();
    sent::<Gradients>();
    sent::<Training>();
    sent::<Engine>();
}

fn engine() -> Engine {
    Engine::with_isa(2, Isa::best()).unwrap()
}

#[test]
fn sessions_of_other_batch_sizes_share_their_weights() {
    let net = crate::zoo::by_name(
        "resnet18",
        &crate::zoo::ZooOptions { input: Some([3, 64, 64]), classes: Some(5), ..Default::default() },
    );
    let net = net.unwrap();
    let (state, images) = (state(&net), numbers(1, 16 * net.input_shape().elements()));
    for precision in [Precision::F32, Precision::Bf16] {
        let engine = engine().with_precision(precision);
        let first = Inference::new(&net, &engine, 16, &state).unwrap();
        for batch in [1, 2, 16] {
            let mut shared = first.with_batch(batch).unwrap();
            let mut own = Inference::new(&net, &engine, batch, &state).unwrap();
            let images = &images[..batch * net.input_shape().elements()];
            assert_eq!(shared.run(images, batch).unwrap(), own.run(images, batch).unwrap(), "{precision} {batch}");
            let (same, bytes) = first.shares_weights(&shared);
            // The 3×3 convolutions of bf16 are there as floats and as words of half their size.
            let parameters = 4 * net.parameter_count() as usize;
            assert!(same && bytes < parameters * 8 / 5, "{bytes} of {parameters}");
        }
        assert!(first.with_batch(0).is_err());
    }
}

#[test]
fn weights_are_replaced_as_a_whole() {
    let (net, engine) = (nets()[0].clone(), engine());
    let (old, images) = (state(&net), numbers(1, 2 * net.input_shape().elements()));
    let mut new = old.clone();
    new.values_mut().flat_map(|tensor| tensor.data_mut()).for_each(|x| *x = 0.75 * *x + 0.125);
    let run =
        |weights: &StateDict| Inference::new(&net, &engine, 2, weights).unwrap().run(&images, 2).unwrap().to_vec();
    let mut inference = Inference::new(&net, &engine, 2, &old).unwrap();
    let mut other = inference.with_batch(2).unwrap();
    let mut bad = new.clone();
    let last = bad.keys().next_back().unwrap().clone();
    bad.insert(last, Tensor::zeros([1, 2, 3]));
    assert!(inference.set_weights(&bad).is_err());
    assert_eq!(inference.run(&images, 2).unwrap(), run(&old));
    inference.set_weights(&new).unwrap();
    assert_eq!(inference.run(&images, 2).unwrap(), run(&new));
    assert_eq!(other.run(&images, 2).unwrap(), run(&old));

    let mut training = Training::new(&net, &engine, 2, &old, ADAM, 0).unwrap();
    assert!(training.set_weights(&bad).is_err());
    assert_eq!(training.weights(), old);
    training.set_weights(&new).unwrap();
    assert_eq!(training.weights(), new);

    let gradient = |session: &mut Gradients| {
        let logits = session.forward(&images, 2).unwrap().to_vec();
        session.backward(&logits).unwrap();
        session.gradient("input").unwrap().1.to_vec()
    };
    let session = |weights: &StateDict| {
        Inference::builder(&net, weights).batch(2).taps(["input"]).build_gradients(&engine).unwrap()
    };
    let mut replaced = session(&old);
    let before = gradient(&mut replaced);
    assert!(replaced.set_weights(&bad).is_err());
    assert_eq!(gradient(&mut replaced), before);
    replaced.set_weights(&new).unwrap();
    assert_eq!(gradient(&mut replaced), gradient(&mut session(&new)));
}

/// Some parameters and norms of a net are frozen, as a seed decides.
fn frozen(seed: u64, name: &str) -> bool {
    let tag = name.bytes().fold(seed, |tag, byte| random::mix(tag, u64::from(byte)));
    (tag >> 40) % 2 == 0
}

/// One step with some parameters and norms frozen against the reference.
fn check_frozen(net: &Net, engine: &Engine, seed: u64) {
    let (state, batch) = (state(net), 3);
    let images = numbers(1, batch * net.input_shape().elements());
    let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
    let mode = Mode::Training { run_seed: 5, step: 0 };
    let norms = |name: &str| frozen(seed + 1, name);
    let want = Reference::<f64>::from_state(net, &state).unwrap().with_frozen_norms(norms);
    let want = want.pass(&wide, &[0, 1, 2], mode).unwrap();
    let naive = Reference::<f32>::from_state(net, &state).unwrap().with_frozen_norms(norms);
    let naive = naive.pass(&images, &[0, 1, 2], mode).unwrap();
    let group = |name: &str| if frozen(seed, name) { ParameterGroup::FROZEN } else { ParameterGroup::default() };
    let builder = Training::builder(net, &state).batch(batch).update(SGD).seed(5);
    let needed = net.needed(true);
    let dead = net.parameters().into_iter().filter(|(_, node, _)| !needed[node.index()]).map(|(name, ..)| name);
    let dead: Vec<String> = dead.collect();
    let Ok(mut training) = builder.parameters(group).frozen_norms(norms).build(engine) else {
        let fixed = |name: &String| frozen(seed, name) || want.buffers.contains_key(name) || dead.contains(name);
        assert!(state.keys().all(fixed), "{}", net.name());
        return;
    };
    let step = training.step(&images, &[0, 1, 2], 1e-3).unwrap();
    assert!((step.loss - want.loss).abs() < 1e-4 * want.loss.abs().max(1.0), "{}: loss", net.name());
    let largest = want.gradients.values().map(|gradient| size(gradient)).fold(0.0, f64::max);
    for (name, gradient) in &training.last_gradients() {
        let (want, naive) = (&want.gradients[name], &naive.gradients[name]);
        if frozen(seed, name) {
            assert!(gradient.data().iter().all(|&x| x == 0.0), "{} {name}", net.name());
            continue;
        }
        let floor = if size(want) < 1e-9 * largest { 0.1 * largest } else { 0.0 };
        let allowed = (1e-3 * size(want).max(floor).max(1e-2)).max(ROUNDING * largest_error(naive, want));
        let error = largest_error(gradient.data(), want);
        assert!(error < allowed, "{} {name}: off by {error:.2e} of {:.2e}", net.name(), size(want));
    }
    let after = training.weights();
    for (name, tensor) in after.iter().filter(|(name, _)| !dead.contains(name)) {
        match want.buffers.get(name) {
            Some(buffer) => assert_close(name, tensor.data(), buffer, 1e-3),
            None => assert!(!frozen(seed, name) || *tensor == state[name], "{} {name}", net.name()),
        }
    }
}

#[test]
fn frozen_parameters_and_norms_leave_the_others_their_gradients() {
    let engine = engine();
    (0..60).for_each(|seed| check_frozen(&random_net(seed), &engine, seed));
    for seed in 0..6 {
        nets().iter().for_each(|net| check_frozen(net, &engine, seed));
    }
}

#[test]
fn nothing_is_computed_below_the_lowest_trained_parameter() {
    let (net, engine) = (residual(), engine());
    let state = state(&net);
    let last = net.nodes().last().unwrap().name.clone();
    let head = |name: &str| if name.starts_with(&last) { ParameterGroup::default() } else { ParameterGroup::FROZEN };
    let mut training = Training::builder(&net, &state).batch(2).parameters(head).build(&engine).unwrap();
    training.profile(true);
    training.step(&numbers(1, 2 * net.input_shape().elements()), &[0, 1], 0.1).unwrap();
    let rows = training.profile_rows();
    let backward: Vec<&str> =
        rows.iter().filter(|row| row.direction == "backward").map(|row| row.layer.as_str()).collect();
    assert_eq!(backward, [last.as_str()]);
    let none = Training::builder(&net, &state).parameters(|_| ParameterGroup::FROZEN).build(&engine);
    assert!(none.unwrap_err().to_string().contains("expected a parameter that is trained"));
    let bad = |_: &str| ParameterGroup { lr: -1.0, ..ParameterGroup::default() };
    assert!(Training::builder(&net, &state).parameters(bad).build(&engine).unwrap_err().to_string().contains("lr -1"));
}

#[test]
fn groups_have_their_own_rates_and_decay() {
    let (net, engine) = (residual(), engine());
    let (state, images) = (state(&net), numbers(1, 3 * net.input_shape().elements()));
    let adamw = Update::Adam { betas: [0.9, 0.99], eps: 1e-8, weight_decay: 0.1, decoupled: true };
    for update in [SGD, adamw] {
        let step = |group: &dyn Fn(&str) -> ParameterGroup, lr: f32| {
            let builder = Training::builder(&net, &state).batch(3).update(update).parameters(group);
            let mut training = builder.build(&engine).unwrap();
            training.step(&images, &[0, 1, 2], lr).unwrap();
            training.weights()
        };
        let plain = ParameterGroup::default();
        let biased = |name: &str| name.ends_with("bias");
        let mixed = |name: &str| match biased(name) {
            true => ParameterGroup { lr: 0.5, weight_decay: 0.0, ..ParameterGroup::default() },
            false => plain,
        };
        let no_decay = |_: &str| ParameterGroup::NO_DECAY;
        let (found, all, slow) = (step(&mixed, 0.01), step(&|_| plain, 0.01), step(&no_decay, 0.005));
        for (name, tensor) in &found {
            let same = if biased(name) { &slow } else { &all };
            assert_eq!(tensor, &same[name], "{name}");
        }
        assert_ne!(found, all);
    }
}

/// Against the reference with each parameter by itself, and its gradient as it is.
#[test]
fn lamb_adapts_each_parameter_by_itself() {
    let (net, engine) = (residual(), engine());
    let (state, images) = (state(&net), numbers(1, 3 * net.input_shape().elements()));
    let update = Update::Lamb { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.1 };
    let no_decay = |name: &str| match name.ends_with("bias") {
        true => ParameterGroup::NO_DECAY,
        false => ParameterGroup::default(),
    };
    let builder = Training::builder(&net, &state).batch(3).update(update).parameters(no_decay);
    let mut training = builder.build(&engine).unwrap();
    training.step(&images, &[0, 1, 2], 0.01).unwrap();
    let (found, gradients) = (training.weights(), training.last_gradients());
    let wide = |x: f32| f64::from(x);
    for (name, gradient) in &gradients {
        let weight_decay = wide(0.1 * no_decay(name).weight_decay);
        let lamb = Lamb { lr: wide(0.01), betas: [0.9, 0.999].map(wide), eps: wide(1e-6), weight_decay };
        let widened = |tensor: &Tensor| tensor.data().iter().map(|&x| wide(x)).collect::<Vec<f64>>();
        let mut want = widened(&state[name]);
        lamb.step(&mut want, &widened(gradient), &mut Moments::new(gradient.data().len()));
        let error = widened(&found[name]).iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

#[test]
fn an_average_holds_parameters_and_statistics() {
    let (net, engine) = (residual(), engine());
    let (state, images) = (state(&net), numbers(1, 3 * net.input_shape().elements()));
    let mut training = Training::new(&net, &engine, 3, &state, SGD, 1).unwrap();
    assert_eq!(training.averaged_weights(), None);
    training.average(0.5);
    let mut want = state.clone();
    for _ in 0..3 {
        training.step(&images, &[0, 1, 2], 0.01).unwrap();
        training.average(0.75);
        for (name, tensor) in training.weights() {
            let average = want.get_mut(&name).unwrap().data_mut();
            average.iter_mut().zip(tensor.data()).for_each(|(a, w)| *a += 0.25 * (w - *a));
        }
    }
    let found = training.averaged_weights().unwrap();
    assert!(found.keys().any(|name| name.ends_with("running_var")) && found.len() == want.len());
    for (name, tensor) in &found {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(tensor.data().iter().zip(want[name].data()).all(close), "{name}");
    }
    let mut other = Training::new(&net, &engine, 3, &training.weights(), SGD, 1).unwrap();
    other.restore_average(&found).unwrap();
    training.average(0.9);
    other.average(0.9);
    assert_eq!(other.averaged_weights(), training.averaged_weights());
    assert!(other.restore_average(&StateDict::new()).is_err());
}

#[test]
fn recomputed_statistics_are_the_means_over_batches() {
    let engine = engine();
    // A stem, norms behind sums, and dropout, which must not count.
    let dropping = crate::zoo::ZooOptions { input: Some([1, 20, 20]), classes: Some(3), ..Default::default() };
    for net in [residual(), inception(), crate::zoo::by_name("cnn", &dropping).unwrap()] {
        let (state, one) = (state(&net), net.input_shape().elements());
        let images = numbers(1, 9 * one);
        let batches: Vec<&[f32]> = images.chunks(3 * one).collect();
        let plan = || Training::new(&net, &engine, 3, &state, SGD, 1).unwrap();
        let of_one = |batch: &&[f32]| {
            let mut training = plan();
            training.recompute_statistics(batch, 3, 0).unwrap();
            training.weights()
        };
        let each: Vec<StateDict> = batches.iter().map(of_one).collect();
        let (mut all, mut moved) = (plan(), plan());
        for (batch, index) in batches.iter().zip(0..) {
            all.recompute_statistics(batch, 3, index).unwrap();
        }
        moved.gradients(batches[0], &[0, 1, 2]).unwrap();
        let first = net.nodes().iter().find(|node| matches!(node.op, crate::ops::Op::BatchNorm2d(_))).unwrap();
        let (all, moved) = (all.weights(), moved.weights());
        for (name, found) in &all {
            if !name.contains("running_") {
                assert_eq!(found, &state[name], "{name}");
                continue;
            }
            let mean = |i: usize| each.iter().map(|one| f64::from(one[name].data()[i])).sum::<f64>() / 3.0;
            let close = |(i, x): (usize, &f32)| (f64::from(*x) - mean(i)).abs() < 1e-5 * mean(i).abs().max(1.0);
            assert!(found.data().iter().enumerate().all(close), "{}: {name}", net.name());
            // What training moves towards, at the first norm, above which nothing drops.
            if name.starts_with(&format!("{}.", first.name)) {
                let step = |i: usize| 0.9 * state[name].data()[i] + 0.1 * each[0][name].data()[i];
                assert!((0..found.data().len()).all(|i| (moved[name].data()[i] - step(i)).abs() < 1e-5), "{name}");
            }
        }
        assert!(plan().recompute_statistics(&images, 9, 0).is_err());
    }
}

/// The statistics of an average are those of its own parameters.
#[test]
fn an_average_has_its_statistics_recomputed() {
    let (net, engine) = (residual(), engine());
    let (state, images) = (state(&net), numbers(1, 3 * net.input_shape().elements()));
    let mut training = Training::new(&net, &engine, 3, &state, SGD, 1).unwrap();
    training.average(0.9);
    training.step(&images, &[0, 1, 2], 0.1).unwrap();
    let trained = training.weights();
    training.recompute_statistics(&images, 3, 0).unwrap();
    assert_eq!(training.weights(), trained);
    let mut alone = Training::new(&net, &engine, 3, &state, SGD, 1).unwrap();
    alone.recompute_statistics(&images, 3, 0).unwrap();
    assert_eq!(training.averaged_weights(), Some(alone.weights()));
}

#[test]
fn gradients_are_read_changed_and_added_up() {
    let (net, engine) = (inception(), engine());
    let (state, one) = (state(&net), net.input_shape().elements());
    let images = numbers(1, 6 * one);
    let (first, second) = images.split_at(3 * one);
    let plan = || Training::new(&net, &engine, 3, &state, SGD, 1).unwrap();
    let (mut a, mut both) = (plan(), plan());
    let step = a.gradients(first, &[0, 1, 2]).unwrap();
    assert_eq!(both.gradients(first, &[0, 1, 2]).unwrap(), step);
    assert_eq!(a.weights().get("linear"), state.get("linear"));
    let of_first = a.flat_gradients().to_vec();
    a.gradients(second, &[2, 1, 0]).unwrap();
    let of_second = a.flat_gradients().to_vec();
    both.accumulate(second, &[2, 1, 0]).unwrap();
    let sum: Vec<f32> = of_first.iter().zip(&of_second).map(|(a, b)| a + b).collect();
    assert_eq!(both.flat_gradients(), sum);

    both.scale_gradients(0.5);
    let want = sum.iter().map(|x| 0.25 * f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let norm = both.clip_grad_norm(f32::MAX);
    assert!((norm - want).abs() < 1e-5 * want);
    assert_eq!(both.clip_grad_norm((0.5 * want) as f32), norm);
    assert!((both.grad_norm() - 0.5 * want).abs() < 1e-4 * want);

    let name = state.keys().find(|name| name.ends_with(".weight")).unwrap();
    let gradient = both.gradient(name).unwrap();
    assert_eq!(gradient, both.last_gradients()[name]);
    let zeros = Tensor::zeros(gradient.shape().to_vec());
    both.set_gradient(name, &zeros).unwrap();
    assert_eq!(both.gradient(name).unwrap(), zeros);
    assert!(both.set_gradient(name, &Tensor::zeros([1])).unwrap_err().to_string().contains("expected shape"));
    assert!(both.gradient("nothing").is_err());

    // What is not trained counts in no norm.
    let group = |other: &str| if other == name { ParameterGroup::FROZEN } else { ParameterGroup::default() };
    let mut frozen = Training::builder(&net, &state).batch(3).parameters(group).build(&engine).unwrap();
    frozen.gradients(first, &[0, 1, 2]).unwrap();
    let norm = frozen.grad_norm();
    frozen.set_gradient(name, &gradient).unwrap();
    assert_eq!((frozen.grad_norm(), frozen.gradient(name).unwrap()), (norm, zeros));

    // What a caller writes where backward does not is gone with the next pass.
    both.flat_gradients_mut().fill(1.0);
    both.set_weights(&state).unwrap();
    let mut fresh = plan();
    fresh.gradients(first, &[0, 1, 2]).unwrap();
    // Dropout is another in each pass of a step.
    both.update(0.0);
    both.restore(&fresh.optimizer_state(), 0).unwrap();
    both.set_weights(&state).unwrap();
    both.gradients(first, &[0, 1, 2]).unwrap();
    assert_eq!(both.flat_gradients(), fresh.flat_gradients());
}

/// As processes do that each learn from a share of a batch.
#[test]
fn trainings_that_average_their_gradients_stay_the_same() {
    // Without dropout, which is another in each training.
    let options = zoo::ZooOptions { input: Some([3, 8, 8]), ..Default::default() };
    let (net, engine) = (zoo::by_name("resnet20", &options).unwrap(), engine());
    let (state, one) = (state(&net), net.input_shape().elements());
    let images = numbers(1, 6 * one);
    let shares = [(&images[..3 * one], [0, 1, 2]), (&images[3 * one..], [2, 1, 0])];
    let plan = || Training::new(&net, &engine, 3, &state, SGD, 1).unwrap();
    let (mut both, mut alone) = ([plan(), plan()], plan());
    for _ in 0..3 {
        for (training, (images, labels)) in both.iter_mut().zip(&shares) {
            training.gradients(images, labels).unwrap();
            alone.accumulate(images, labels).unwrap();
        }
        alone.scale_gradients(0.5);
        let [first, second] = &mut both;
        for (a, b) in first.flat_gradients_mut().iter_mut().zip(second.flat_gradients_mut()) {
            let mean = 0.5 * (*a + *b);
            (*a, *b) = (mean, mean);
        }
        both.iter_mut().chain([&mut alone]).for_each(|training| training.update(0.1));
    }
    let parameters = |training: &Training| {
        let mut weights = training.weights();
        // Each has the statistics of its own pictures.
        weights.retain(|name, _| !name.contains("running_"));
        weights
    };
    let [first, second] = both.each_ref().map(parameters);
    assert_ne!(first, parameters(&plan()));
    assert_eq!(first, second);
    assert_eq!(first, parameters(&alone));
}

#[test]
fn a_step_is_its_gradients_and_an_update() {
    let (net, engine) = (residual(), engine());
    let (state, images) = (state(&net), numbers(1, 3 * net.input_shape().elements()));
    let plan = || Training::new(&net, &engine, 3, &state, ADAM, 1).unwrap();
    let (mut whole, mut parts) = (plan(), plan());
    for lr in [1e-2, 2e-2] {
        let step = whole.step(&images, &[0, 1, 2], lr).unwrap();
        assert_eq!(parts.gradients(&images, &[0, 1, 2]).unwrap(), step);
        parts.update(lr);
    }
    assert_eq!(weights::weights_sha256(&whole.weights()), weights::weights_sha256(&parts.weights()));
    assert_eq!((whole.steps(), parts.steps()), (2, 2));
}

#[test]
fn probabilities_are_targets() {
    // Two outputs whose losses are added.
    let (net, engine) = (inception(), engine());
    let (state, images) = (state(&net), numbers(1, 2 * net.input_shape().elements()));
    let plan = || Training::new(&net, &engine, 2, &state, SGD, 1).unwrap();
    let (mut a, mut b, mut soft) = (plan(), plan(), plan());
    let of = [a.gradients(&images, &[0, 4]).unwrap(), b.gradients(&images, &[1, 4]).unwrap()];
    let targets = [0.75, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let step = soft.gradients(&images, &targets).unwrap();
    assert!((step.loss - 0.75 * of[0].loss - 0.25 * of[1].loss).abs() < 1e-5);
    assert_eq!(step.correct, of[0].correct);
    let mixed =
        a.flat_gradients().iter().zip(b.flat_gradients()).map(|(a, b)| 0.75 * f64::from(*a) + 0.25 * f64::from(*b));
    assert_close("gradients", soft.flat_gradients(), &mixed.collect::<Vec<f64>>(), 1e-4);
    for (bad, message) in [
        (vec![0.5; 10], "for picture 0"),
        (vec![1.0; 7], "with 5 classes each: expected 10, got 7"),
        ([&targets[..9], &[f32::NAN]].concat(), "for picture 1"),
    ] {
        let problem = soft.gradients(&images, &bad).unwrap_err().to_string();
        assert!(problem.contains(message), "{problem}");
    }
}
