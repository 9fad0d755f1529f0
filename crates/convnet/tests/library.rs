//! What the library promises to programs: what may go to other threads, what can be printed, and errors with facts.

use std::fmt::Debug;

use convnet::data::{Batch, Dataset, Loader, Source};
use convnet::predictor::{Input, Predictor};
use convnet::prelude::*;
use convnet::train::Trainer;
use convnet::zoo::ZooOptions;

/// Whether it can go to another thread and be printed.
fn goes_to_threads<T: Send + Debug>() {}

/// Whether several threads can use it at once.
fn is_shared<T: Send + Sync + Debug>() {}

#[test]
fn sessions_go_to_other_threads_and_descriptions_are_shared() {
    goes_to_threads::<Inference>();
    goes_to_threads::<Gradients>();
    goes_to_threads::<Training>();
    goes_to_threads::<Predictor>();
    goes_to_threads::<Trainer>();
    goes_to_threads::<Loader>();
    goes_to_threads::<Batch>();
    goes_to_threads::<Input>();
    is_shared::<Net>();
    is_shared::<Engine>();
    is_shared::<Classifier>();
    is_shared::<Dataset>();
    is_shared::<Source>();
    is_shared::<Tensor>();
    is_shared::<Error>();
}

#[test]
fn errors_have_their_facts_in_fields() {
    let resnet = zoo::by_name("resnet18", &ZooOptions::default()).unwrap();
    assert!(
        matches!(zoo::find("resnet81"), Err(Error::Unknown { what: "model", near: Some(near), .. }) if near == "resnet18")
    );
    let small = ZooOptions { input: Some([3, 8, 8]), ..ZooOptions::default() };
    let small = zoo::by_name("alexnet", &small).unwrap_err();
    assert!(
        matches!(small, Error::TooSmall { model: "alexnet", smallest: [3, 63, 63], found: [3, 8, 8], .. }),
        "{small:?}"
    );
    let foreign = ZooOptions { ksize: Some(3), ..ZooOptions::default() };
    let foreign = zoo::by_name("resnet18", &foreign).unwrap_err();
    assert!(
        matches!(&foreign, Error::NoSuchSetting { setting, model: "resnet18", .. } if setting == &"ksize"),
        "{foreign:?}"
    );

    let engine = Engine::new(1).unwrap();
    let mut state = weights::init(&resnet, 0);
    let build = |state: &StateDict| Inference::new(&resnet, &engine, 1, state);
    state.insert("conv1.weight".into(), Tensor::zeros([64, 1, 7, 7]));
    match build(&state) {
        Err(Error::Shape { of, expected, found, .. }) => {
            assert_eq!((&*of, expected, found), ("parameter 'conv1.weight'", vec![64, 3, 7, 7], vec![64, 1, 7, 7]));
        }
        other => panic!("{other:?}"),
    }
    state.remove("conv1.weight");
    assert!(matches!(build(&state), Err(Error::Missing { name, .. }) if name == "conv1.weight"));

    let net = zoo::by_name("cnn", &ZooOptions::default()).unwrap();
    let mut training = Training::new(&net, &engine, 2, &weights::init(&net, 0), Update::ADAM, 0).unwrap();
    let pictures = vec![0.0; 2 * 28 * 28];
    let long = training.step(&pictures[1..], &[1, 2], 0.1);
    assert!(matches!(long, Err(Error::Length { expected: 1568, found: 1567, .. })), "{long:?}");
    assert!(matches!(training.step(&pictures, &[1, 10], 0.1), Err(Error::Label { label: 10, classes: 10, .. })));
    assert!(matches!(training.gradient("fc.weight"), Err(Error::Unknown { what: "parameter", .. })));
}
