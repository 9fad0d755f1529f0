use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::data::{Normalization, Preprocessing};
use crate::geometry::Window;
use crate::ops::{Activation, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Shape};

/// What `tests/golden/explain.py` writes.
#[derive(Deserialize)]
struct Golden {
    weights: BTreeMap<String, Weight>,
    image: Vec<f32>,
    logits: Vec<f32>,
    expected: BTreeMap<String, Vec<f32>>,
    settings: Settings,
}

#[derive(Deserialize)]
struct Weight {
    shape: Vec<usize>,
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct Settings {
    class: usize,
    steps: usize,
    window: [usize; 2],
    stride: [usize; 2],
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/explain.json")).unwrap()
}

/// The net of the script.
fn small() -> Net {
    let mut net = Net::new("small", Shape::Map([3, 12, 10])).unwrap();
    net.then("conv1", Conv2d { bias: false, ..Conv2d::new(6, Window::square(3).padding(1)) }).unwrap();
    net.then("bn1", BatchNorm2d::default()).unwrap();
    net.then("relu1", Activation::Relu).unwrap();
    let pool = net.then("pool", MaxPool2d::new(2)).unwrap();
    let conv = net.then("conv2", Conv2d::new(6, Window::square(3).padding(1))).unwrap();
    net.add("sum", Op::Add, &[conv, pool]).unwrap();
    net.then("relu2", Activation::Relu).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Linear::new(3)).unwrap();
    net
}

fn classifier(net: Net, weights: StateDict) -> Classifier {
    let normalization = Normalization { mean: vec![0.5, 0.4, 0.3], std: vec![0.25; 3] };
    let Shape::Map(input) = net.input_shape() else { panic!("pictures") };
    let classes = ["cat", "dog", "tiger cat"].map(str::to_owned).to_vec();
    let description = Description::new(net, Preprocessing::new(input, normalization), classes).unwrap();
    Classifier { description, weights }
}

fn explainer() -> Explainer {
    let weights = golden().weights.into_iter().map(|(name, weight)| (name, Tensor::new(weight.shape, weight.data)));
    Explainer::with_engine(classifier(small(), weights.collect()), &Engine::new(1).unwrap()).unwrap()
}

/// The method of that name, as the script sets it.
fn method(name: &str, settings: &Settings) -> Method {
    let baseline = Baseline::Mean;
    match name.parse().unwrap() {
        Method::IntegratedGradients { .. } => Method::IntegratedGradients { steps: settings.steps, baseline },
        Method::Occlusion { .. } => Method::Occlusion { window: settings.window, stride: settings.stride, baseline },
        method => method,
    }
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    let size = expected.iter().fold(0.0_f32, |size, x| size.max(x.abs()));
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = found.iter().zip(expected).fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
    assert!(size > 0.0 && error < 1e-4 * size, "{what}: off by {error:.2e} of {size:.2e}");
}

#[test]
fn every_method_finds_what_pytorch_finds() {
    let (golden, mut explainer) = (golden(), explainer());
    assert_near("logits", &explainer.outputs(&golden.image, 1).unwrap(), &golden.logits);
    for (name, expected) in &golden.expected {
        let method = method(name, &golden.settings);
        let question = Question { class: Some(golden.settings.class), ..Question::new(method) };
        let found = explainer.explain(&golden.image, &question).unwrap();
        assert_near(name, found.attributions.data(), expected);
        assert_eq!(found.layer.as_deref(), method.takes_layer().then_some("relu2"));
        let size = if method.takes_layer() { [6, 5] } else { [12, 10] };
        assert_eq!(
            (found.map.size(), found.class, found.score),
            (size, 1, explainer.outputs(&golden.image, 1).unwrap()[1])
        );
        // A second time, with what was planned the first time.
        assert_eq!(explainer.explain(&golden.image, &question).unwrap(), found);
    }
    assert_eq!(golden.expected.len(), Method::ALL.len() - 1);
}

#[test]
fn the_predicted_class_and_the_last_maps_are_explained_by_default() {
    let (golden, mut explainer) = (golden(), explainer());
    let best = crate::evaluate::ranking(&golden.logits)[0];
    let by_default = explainer.explain(&golden.image, &Question::new(Method::GradCam)).unwrap();
    let question = Question { class: Some(best), layer: Some("relu2".into()), method: Method::GradCam };
    assert_eq!(explainer.explain(&golden.image, &question).unwrap(), by_default);
    let other = Question { layer: Some("pool".into()), ..question };
    assert_ne!(explainer.explain(&golden.image, &other).unwrap().map, by_default.map);
}

#[test]
fn integrated_gradients_add_up() {
    let (golden, mut explainer) = (golden(), explainer());
    for baseline in [Baseline::Mean, Baseline::Black, Baseline::White] {
        let error = |steps: usize, explainer: &mut Explainer| {
            let question = Question::new(Method::IntegratedGradients { steps, baseline });
            let found = explainer.explain(&golden.image, &question).unwrap().completeness.unwrap();
            (found.sum - found.change).abs()
        };
        let (coarse, fine) = (error(2, &mut explainer), error(400, &mut explainer));
        assert!(fine < coarse / 20.0 || coarse < 1e-3, "{baseline:?}: {coarse} {fine}");
    }
}

#[test]
fn smooth_grad_is_the_mean_of_gradients() {
    let (golden, mut explainer) = (golden(), explainer());
    let explain = |explainer: &mut Explainer, method| explainer.explain(&golden.image, &Question::new(method)).unwrap();
    let plain = explain(&mut explainer, Method::Saliency);
    let still = explain(&mut explainer, Method::SmoothGrad { samples: 11, noise: 0.0, seed: 3 });
    assert_near("no noise", still.attributions.data(), plain.attributions.data());
    let noisy =
        |explainer: &mut Explainer, seed| explain(explainer, Method::SmoothGrad { samples: 11, noise: 0.3, seed });
    let one = noisy(&mut explainer, 1);
    assert!(one == noisy(&mut explainer, 1) && one.map != noisy(&mut explainer, 2).map && one.map != plain.map);
}

#[test]
fn softmax_is_left_out() {
    let golden = golden();
    let mut net = small();
    net.then("softmax", Op::Softmax).unwrap();
    let weights: StateDict = golden.weights.into_iter().map(|(name, w)| (name, Tensor::new(w.shape, w.data))).collect();
    let mut after = Explainer::with_engine(classifier(net, weights), &Engine::new(1).unwrap()).unwrap();
    let question = Question::new(Method::HiResCam);
    let (found, expected) = (after.explain(&golden.image, &question), explainer().explain(&golden.image, &question));
    assert_eq!(found.unwrap(), expected.unwrap());
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let (image, mut explainer) = (golden().image, explainer());
    let mut problem = |image: &[f32], question: Question| explainer.explain(image, &question).unwrap_err().to_string();
    let by = |layer: &str| Question { layer: Some(layer.into()), ..Question::new(Method::GradCam) };
    assert!(problem(&image, by("relu3")).starts_with("the net 'small' has no layer 'relu3': did you mean 'relu1'?"));
    let vector = problem(&image, by("head"));
    let expected = "layer 'head' (linear): expected a layer with maps, but this one gives a vector of 3 numbers; the last such layer is 'relu2'";
    assert_eq!(vector, expected);
    let class = problem(&image, Question { class: Some(3), ..Question::new(Method::Saliency) });
    assert_eq!(class, "expected labels below 3, the number of classes, got 3");
    assert!(problem(&image[1..], by("relu2")).contains("expected 360, got 359"));
    assert!(problem(&vec![f32::NAN; 360], by("relu2")).contains("nothing can be explained"));
    let occlusion = |window, stride| Question::new(Method::Occlusion { window, stride, baseline: Baseline::Mean });
    assert!(problem(&image, occlusion([3, 11], [1, 1])).contains("at most 10"));
    assert!(problem(&image, occlusion([3, 3], [4, 3])).contains("at most 3"));
    let steps = Method::IntegratedGradients { steps: 1001, baseline: Baseline::Mean };
    assert!(problem(&image, Question::new(steps)).contains("1 to 1000"));
    let smooth = |samples, noise| Question::new(Method::SmoothGrad { samples, noise, seed: 0 });
    assert!(
        problem(&image, smooth(0, 0.1)).contains("samples") && problem(&image, smooth(1, f32::NAN)).contains("noise")
    );
    let error = "grad-kam".parse::<Method>().unwrap_err().to_string();
    assert_eq!(error, "unknown method 'grad-kam': did you mean 'grad-cam'?");
    let description = explainer.description();
    assert_eq!([class_number(description, "tiger cat"), class_number(description, "1")], ["2", "1"]);
    assert!(class_number(description, "tigercat").contains("did you mean 'tiger cat'"));
    let mut flat = Net::new("flat", Shape::Map([1, 1, 4])).unwrap();
    flat.then("avgpool", AdaptiveAvgPool2d::new([1, 1])).unwrap();
    flat.then("flatten", Op::Flatten).unwrap();
    flat.then("head", Linear::new(2)).unwrap();
    let mut flat = Explainer::new(Classifier::untrained(flat, 0).unwrap()).unwrap();
    let error = flat.explain(&[0.0; 4], &Question::new(Method::GradCam)).unwrap_err().to_string();
    assert!(error.contains("no layer with maps"), "{error}");
    let question = Question { layer: Some("avgpool".into()), ..Question::new(Method::GradCam) };
    let error = flat.explain(&[0.0; 4], &question).unwrap_err().to_string();
    assert_eq!(
        error,
        "layer 'avgpool' (adaptive_avg_pool2d): expected a layer with maps, but this one gives maps of one pixel"
    );
    assert!(flat.explain(&[0.0; 4], &Question::new(Method::Saliency)).is_ok());
}

fn class_number(description: &Description, text: &str) -> String {
    class(description, text).map_or_else(|error| error.to_string(), |class| class.to_string())
}

/// Of some networks of the zoo: the layer that class activation maps look at by default.
#[test]
fn networks_of_the_zoo_have_last_maps() {
    let last = |name: &str| {
        let net = crate::zoo::by_name(name, &crate::zoo::ZooOptions::default()).unwrap();
        let node = cam::last_maps(&net).unwrap();
        let shape = cam::maps_of(&net, node).unwrap();
        (net.node(node).name.clone(), shape)
    };
    for (name, layer, shape) in [
        ("cnn", "pool2", [64, 7, 7]),
        ("resnet20", "layer3.2.relu", [64, 8, 8]),
        ("resnet50", "layer4.2.relu", [2048, 7, 7]),
        ("vgg16", "features.30", [512, 7, 7]),
        ("densenet121", "relu", [1024, 7, 7]),
        ("googlenet", "inception5b.concat", [1024, 7, 7]),
        ("squeezenet1_1", "classifier.2", [1000, 13, 13]),
    ] {
        assert_eq!(last(name), (layer.to_owned(), shape), "{name}");
    }
}

/// A convolution with stride, a pooling in ceil mode, a dilated and a wide one beside each other, and a pooling to 3x2.
fn branched() -> Net {
    let mut net = Net::new("branched", Shape::Map([1, 19, 23])).unwrap();
    net.then("conv", Conv2d::new(4, Window::square(3).stride(2).padding(1))).unwrap();
    net.then("relu", Activation::Silu).unwrap();
    let window = Window { ceil_mode: true, ..Window { kernel: [3, 2], ..Window::square(3).stride(2) } };
    let pool = net.then("pool", crate::ops::AvgPool2d { window, count_include_pad: true }).unwrap();
    let dilated = Window { dilation: [2, 1], padding: crate::geometry::Padding::per_axis([2, 1]), ..Window::square(3) };
    let one = net.then("dilated", Conv2d::new(3, dilated)).unwrap();
    let two = net.add("pointwise", Conv2d::new(3, Window::square(1)), &[pool]).unwrap();
    net.add("concat", Op::Concat, &[one, two]).unwrap();
    net.then("adaptive", AdaptiveAvgPool2d::new([3, 2])).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Linear::new(3)).unwrap();
    net
}

/// The hull of the places of numbers that are not 0.
fn hull(map: &Map) -> Field {
    let [height, width] = map.size();
    let is_there = |y: usize, x: usize| map.values()[y * width + x] != 0.0;
    let rows: Vec<usize> = (0..height).filter(|&y| (0..width).any(|x| is_there(y, x))).collect();
    let columns: Vec<usize> = (0..width).filter(|&x| (0..height).any(|y| is_there(y, x))).collect();
    let range = |places: &[usize]| places[0]..places[places.len() - 1] + 1;
    Field { rows: range(&rows), columns: range(&columns) }
}

#[test]
fn the_box_of_a_unit_holds_the_pixels_with_a_gradient() {
    let mut explainer = Explainer::new(Classifier::untrained(branched(), 3).unwrap()).unwrap();
    let image: Vec<f32> = (0..19 * 23).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
    for layer in ["conv", "pool", "dilated", "pointwise", "concat", "adaptive"] {
        let Shape::Map([_, height, width]) = explainer.net.node(explainer.net.find(layer).unwrap()).shape else {
            panic!()
        };
        for unit in (0..height).flat_map(|row| (0..width).map(move |column| [row, column])) {
            let seen = explainer.sees(&image, layer, Some(unit), None).unwrap();
            assert_eq!(hull(&seen.effective), seen.field, "{layer} {unit:?}");
            assert!(seen.pixels > 0 && seen.pixels <= seen.field.size().iter().product());
        }
    }
    let seen = explainer.sees(&image, "concat", None, Some(1)).unwrap();
    assert_eq!((seen.unit, seen.shape), ([2, 3], [6, 5, 6]));
    let mut problem =
        |layer: &str, unit, channel| explainer.sees(&image, layer, unit, channel).unwrap_err().to_string();
    assert_eq!(problem("pool", Some([5, 0]), None), "unit: expected a row below 5 and a column below 6, got 5,0");
    assert_eq!(problem("pool", None, Some(4)), "channel: expected below 4, got 4");
    assert!(problem("head", None, None).contains("a vector of 3 numbers"));
}

/// Squeeze and excitation looks at the whole picture.
#[test]
fn factors_of_channels_see_the_whole_picture() {
    let net = crate::zoo::by_name("efficientnet_b0", &crate::zoo::ZooOptions::default()).unwrap();
    let conv = net.nodes().iter().position(|node| node.op == Op::Mul).unwrap();
    let mul = crate::net::NodeId(conv);
    assert_eq!(receptive_field(&net, mul, [5, 7]).unwrap().size(), [224, 224]);
    let before = net.node(mul).inputs[0];
    assert!(receptive_field(&net, before, [5, 7]).unwrap().size()[0] < 20);
}

#[test]
fn features_and_filters_are_those_of_the_layer() {
    let (golden, mut explainer) = (golden(), explainer());
    let features = explainer.features(&golden.image, "relu2").unwrap();
    assert_eq!((features.maps.shape(), &features.layer[..]), (&[6, 6, 5][..], "relu2"));
    assert!(features.maps.data().iter().all(|&x| x >= 0.0));
    let filters = explainer.filters(None).unwrap();
    assert_eq!((&filters.layer[..], filters.kernels.data()), ("conv1", &golden.weights["conv1.weight"].data[..]));
    let error = explainer.filters(Some("conv2")).unwrap_err().to_string();
    assert!(error.contains("this one reads 6 channels"), "{error}");
    assert!(explainer.features(&golden.image, "head").is_err());
}

#[test]
fn a_sanity_check_randomises_from_the_top_and_leaves_the_net_as_it_was() {
    let (golden, mut explainer) = (golden(), explainer());
    let methods = [Method::HiResCam, Method::Saliency];
    let sanity = explainer.sanity(&[&golden.image], &methods, 7).unwrap();
    let layers: Vec<&str> = sanity.steps.iter().map(|(layer, _)| &layer[..]).collect();
    assert_eq!(layers, ["head", "conv2", "conv1"]);
    let within = |x: f64| (-1.0..=1.0).contains(&x);
    assert!(
        sanity.steps.iter().flat_map(|(_, row)| row).all(|likeness| within(likeness.rank) && within(likeness.ssim))
    );
    assert_near("logits", &explainer.outputs(&golden.image, 1).unwrap(), &golden.logits);
    // The seed decides.
    assert_eq!(explainer.sanity(&[&golden.image], &methods, 7).unwrap(), sanity);
    assert_ne!(explainer.sanity(&[&golden.image], &methods, 8).unwrap(), sanity);
}

#[cfg(feature = "plots")]
#[test]
fn every_sheet_is_drawn() {
    use crate::data::bitmap::Bitmap;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheet.png");
    let size = || Bitmap::read(&path).unwrap().size();
    let (golden, mut explainer) = (golden(), explainer());
    let description = explainer.description().clone();
    let questions = Method::ALL.map(Question::new);
    let explanations: Vec<Explanation> =
        questions.iter().map(|question| explainer.explain(&golden.image, question).unwrap()).collect();
    overlay(&path, &description, "猫.png", &golden.image, &explanations).unwrap();
    assert!(size()[0] > 1000 && size()[1] > 1000);
    overlay(&path, &description, "one", &golden.image, &explanations[..1]).unwrap();
    assert!(overlay(&path, &description, "short", &golden.image[1..], &[]).is_err());
    let features = explainer.features(&golden.image, "relu2").unwrap();
    feature_sheet(&path, &description, "one", &features).unwrap();
    filter_sheet(&path, &description, &explainer.filters(None).unwrap()).unwrap();
    let seen = explainer.sees(&golden.image, "relu2", None, None).unwrap();
    field_sheet(&path, &description, "one", &golden.image, &[seen.clone(), seen]).unwrap();
    assert!(size()[0] > 400 && size()[1] > 700);
}

/// What a unit comes to by the numbers that it reads is what the engine has computed, for every operation.
#[test]
fn the_arithmetic_of_a_unit_is_the_engines() {
    use crate::exec::tests::nets::{of_every_activation, of_every_operation};
    use crate::exec::tests::{numbers, state};
    let engine = Engine::new(1).unwrap();
    for net in of_every_operation().into_iter().chain(of_every_activation()) {
        let Shape::Map(input) = net.input_shape() else { panic!("pictures") };
        let preprocessing = Preprocessing::new(input, Normalization::unit(input[0]));
        let classes = (0..net.output_shape().elements()).map(|class| class.to_string()).collect();
        let description = Description::new(net.clone(), preprocessing, classes).unwrap();
        let mut explainer = Explainer::with_engine(Classifier { description, weights: state(&net) }, &engine).unwrap();
        let image = numbers(7, input.iter().product());
        for (index, node) in net.nodes().iter().enumerate() {
            let [channels, height, width] = match node.shape {
                Shape::Map(dims) => dims,
                Shape::Vector(features) => [features, 1, 1],
            };
            for [channel, row, column] in
                [[0; 3], [channels - 1, height - 1, width - 1], [index % channels, index % height, 0]]
            {
                let found = explainer.arithmetic(&image, &node.name, channel, Some([row, column])).unwrap();
                let off = (found.result - f64::from(found.value)).abs();
                assert!(
                    off < 1e-4 * (1.0 + found.result.abs()),
                    "{} {} {:?}: {found:?}",
                    net.name(),
                    node.name,
                    node.op
                );
                assert_eq!((found.layer, found.op), (node.name.clone(), node.op.name()));
            }
        }
    }
}

#[test]
fn the_numbers_of_a_unit_are_shown_where_they_lie() {
    let golden = golden();
    let weights = golden.weights.into_iter().map(|(name, Weight { shape, data })| (name, Tensor::new(shape, data)));
    let mut explainer =
        Explainer::with_engine(classifier(small(), weights.collect()), &Engine::new(1).unwrap()).unwrap();
    let corner = explainer.arithmetic(&golden.image, "conv1", 2, Some([0, 0])).unwrap();
    assert_eq!((corner.groups.len(), corner.inputs[0].as_str()), (3, "input"));
    let group = &corner.groups[1];
    assert_eq!((group.title.as_str(), group.rows, group.columns), ("channel 1 of input", 3, 3));
    let pixel = |row: usize, column: usize| Some(golden.image[(12 + row) * 10 + column]);
    let values = [None, None, None, None, pixel(0, 0), pixel(0, 1), None, pixel(1, 0), pixel(1, 1)];
    assert_eq!(group.values, values);
    assert_eq!(corner.field, Field { rows: 0..2, columns: 0..2 });
    // A class's output, by the maps that were flattened.
    let class = explainer.arithmetic(&golden.image, "head", 1, None).unwrap();
    assert_eq!((class.unit, class.groups.len()), (vec![1], 6));
    assert_eq!((class.groups[5].rows, class.groups[5].columns), (6, 5));
    assert_eq!(class.groups[5].title, "channel 5 of relu2");
    assert_eq!(class.field, Field { rows: 0..12, columns: 0..10 });
    for (layer, channel, place) in
        [("conv1", 6, None), ("conv1", 0, Some([12, 0])), ("head", 3, None), ("conv", 0, None)]
    {
        let error = explainer.arithmetic(&golden.image, layer, channel, place).unwrap_err();
        assert!(matches!(error, Error::Setting { .. } | Error::Unknown { .. }), "{error}");
    }
}
