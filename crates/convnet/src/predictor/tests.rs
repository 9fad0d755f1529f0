use std::fs;
use std::path::Path;

use super::*;
use crate::StateDict;
use crate::data::picture::write_png;
use crate::data::{Normalization, Preprocessing};
use crate::distributed::{Processes, test_group::together};
use crate::net::Net;

/// A net of which each output is the mean of a channel, so that answers can be told.
fn channels() -> Classifier {
    let text = "name = 'mean'\ninput = [3, 4, 4]\n[[layer]]\nop = 'adaptive_avg_pool2d'\noutput_size = 1\n[[layer]]\nop = 'flatten'\n";
    let net = Net::from_toml(text).unwrap();
    let preprocessing = Preprocessing::new([3, 4, 4], Normalization::unit(3));
    let classes = ["red", "green", "blue"].map(str::to_owned).to_vec();
    let description = Description::new(net, preprocessing, classes).unwrap();
    Classifier { description, weights: StateDict::new() }
}

fn predictor() -> Predictor {
    Predictor::with_engine(channels(), &Engine::new(1).unwrap()).unwrap()
}

fn with_features(layers: &[&str]) -> Result<Predictor> {
    Predictor::with_features(channels(), &Engine::new(1).unwrap(), layers.iter().copied())
}

/// Pixels of one colour, height × width.
fn plain(colour: [u8; 3], height: usize, width: usize) -> Input {
    Input::pixels(colour.repeat(height * width), height, width, 3)
}

/// A file of one colour.
fn png(folder: &Path, name: &str, colour: [u8; 3]) -> Vec<u8> {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_png(&path, [3, 5, 7], &colour.map(|value| [value; 35]).concat()).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn every_way_in_gives_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = png(folder.path(), "a.png", [0, 51, 255]);
    let mut predictor = predictor().logits(true).top(2);
    let array = [vec![0.0; 16], vec![0.2; 16], vec![1.0; 16]].concat();
    let with_alpha = Input::pixels([0, 51, 255, 7].repeat(20), 5, 4, 4);
    let planes = Input::planes([3, 5, 7], [[0; 35], [51; 35], [255; 35]].concat());
    #[cfg(feature = "image")]
    let decoded = image::load_from_memory(&bytes).unwrap();
    for input in [
        Input::path(folder.path().join("a.png")),
        Input::from(bytes),
        #[cfg(feature = "image")]
        Input::from(decoded),
        plain([0, 51, 255], 4, 4),
        plain([0, 51, 255], 30, 20),
        with_alpha,
        planes,
        Input::array(array),
    ] {
        let image = predictor.description().prepare(input.clone()).unwrap();
        let pixel = [image[0], image[16], image[47]];
        assert!(image.len() == 48 && pixel.iter().zip([0.0, 0.2, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6));
        let prediction = predictor.predict(input).unwrap();
        assert_eq!((prediction.label(), prediction.top.len()), ("blue", 2));
        let logits = prediction.logits.unwrap();
        assert!(logits.iter().zip([0.0, 0.2, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{logits:?}");
        let expected = 1.0 / (1.0 + (-0.8_f64).exp() + (-1.0_f64).exp());
        assert!((prediction.top[0].probability - expected).abs() < 1e-6);
    }
    let grey = predictor.predict(Input::pixels([51; 20], 4, 5, 1)).unwrap();
    assert!(grey.logits.unwrap().iter().all(|logit| (logit - 0.2).abs() < 1e-6));
}

#[test]
fn values_of_layers_come_with_each_picture() {
    let mut predictor = with_features(&["adaptive_avg_pool2d_1", "flatten_1"]).unwrap().batch_size(2);
    let colours = [[255, 0, 0], [0, 51, 255], [0, 255, 0]];
    let answers = predictor.predict_all(colours.map(|colour| plain(colour, 4, 4))).unwrap();
    for (answer, colour) in answers.zip(colours) {
        let features = answer.result.unwrap().features;
        let (maps, row) = (&features["adaptive_avg_pool2d_1"], &features["flatten_1"]);
        assert_eq!((maps.shape(), row.shape()), (&[3, 1, 1][..], &[3][..]));
        for values in [maps.data(), row.data()] {
            assert!(values.iter().zip(colour).all(|(value, byte)| (value - f32::from(byte) / 255.0).abs() < 1e-6));
        }
    }
    let error = with_features(&["flat"]).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_refused_at_once() {
    let net = crate::zoo::by_name("cnn", &crate::zoo::ZooOptions::default()).unwrap();
    let mut classifier = Classifier::untrained(net, 0).unwrap();
    classifier.weights.pop_first();
    let error = Predictor::with_engine(classifier, &Engine::new(1).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    let error = predictor().batch_size(usize::MAX).predict_all([plain([0; 3], 4, 4)]).unwrap_err();
    assert!(matches!(error, Error::Layer { .. }), "{error}");
}

#[test]
fn pictures_come_back_as_they_were_seen() {
    let mut predictor = predictor().planes(true);
    let seen = predictor.predict(plain([0, 51, 255], 30, 20)).unwrap().planes;
    assert_eq!(seen, Some([[0; 16], [51; 16], [255; 16]].concat()));
    assert_eq!(predictor.predict(Input::array(vec![0.5; 48])).unwrap().planes, None);
    assert_eq!(predictor.planes(false).predict(plain([0; 3], 4, 4)).unwrap().planes, None);
}

#[test]
fn answers_come_in_order_whatever_is_bad() {
    let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]];
    let labels = ["red", "green", "blue"];
    for batch in [1, 4, 16] {
        let mut predictor = predictor().batch_size(batch);
        let inputs = (0..50).map(|i| match i % 7 {
            3 => Input::bytes(*b"no picture").named(format!("bad {i}")),
            5 => Input::array([f32::NAN; 48]),
            6 => Input::pixels([0; 10], 3, 3, 1),
            _ => plain(colours[i % 3], 4, 4),
        });
        let answers: Vec<Answer> = predictor.predict_all(inputs).unwrap().collect();
        assert_eq!(answers.len(), 50);
        for (i, Answer { name, result }) in answers.iter().enumerate() {
            match (i % 7, result) {
                (3, Err(error)) => {
                    assert_eq!(error.to_string(), format!("bad {i}: not a PNG, JPEG, WebP, GIF, TIFF or BMP file"));
                }
                (5, Err(error)) => assert!(error.to_string().contains("value 0 of the picture is NaN"), "{error}"),
                (6, Err(error)) => assert!(error.to_string().contains("10 values cannot be a picture of 1"), "{error}"),
                (3 | 5 | 6, Ok(_)) => panic!("picture {i} was taken"),
                (_, Ok(prediction)) => {
                    assert_eq!((&name[..], prediction.label()), (&format!("picture {i}")[..], labels[i % 3]));
                }
                (_, Err(error)) => panic!("{error}"),
            }
        }
        // And it can be asked again; an iterator that is dropped early stops its threads.
        let mut answers = predictor.predict_all((0..1000).map(|_| plain(colours[1], 4, 4))).unwrap();
        assert_eq!(answers.next().unwrap().result.unwrap().label(), "green");
    }
}

/// No more pictures are drawn than are under way.
#[test]
fn pictures_are_drawn_as_they_are_needed() {
    let drawn = std::cell::Cell::new(0);
    let inputs = std::iter::from_fn(|| {
        drawn.set(drawn.get() + 1);
        Some(plain([1, 2, 3], 4, 4))
    });
    let mut predictor = predictor().batch_size(4);
    let mut answers = predictor.predict_all(inputs).unwrap();
    for taken in 1..100 {
        answers.next().unwrap().result.unwrap();
        assert!(drawn.get() <= taken + 3 * 4 + 2 * MOST_DECODERS, "{} drawn for {taken}", drawn.get());
    }
}

#[test]
fn folders_are_walked_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for (name, colour) in
        [("b.png", [9, 0, 0]), ("a/c.png", [0, 9, 0]), (".hidden.png", [0; 3]), ("@eaDir/b.png", [0; 3])]
    {
        png(folder.path(), name, colour);
    }
    fs::write(folder.path().join("c.heic"), b"\0\0\0\x18ftypheic").unwrap();
    fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    let answers: Vec<Answer> = predictor().predict_all(Input::folder(folder.path()).unwrap()).unwrap().collect();
    let labels: Vec<Option<&str>> = answers.iter().map(|answer| Some(answer.result.as_ref().ok()?.label())).collect();
    assert_eq!(labels, [Some("green"), Some("red"), None]);
    assert!(answers[2].result.as_ref().unwrap_err().to_string().contains("HEIC"));
    assert!(Input::folder(tempfile::tempdir().unwrap().path()).is_err());
}

#[test]
fn outputs_that_are_no_numbers_are_errors() {
    let text = "name = 't'\ninput = [3, 4, 4]\n[[layer]]\nop = 'flatten'\n[[layer]]\nname = 'head'\nop = 'linear'\nout_features = 2\n";
    let net = Net::from_toml(text).unwrap();
    let mut weights = crate::weights::init(&net, 0);
    weights.get_mut("head.bias").unwrap().data_mut()[1] = f32::NAN;
    let description = Description::customary(net).unwrap();
    let mut predictor = Predictor::with_engine(Classifier { description, weights }, &Engine::new(1).unwrap()).unwrap();
    let message = predictor.predict(plain([1, 2, 3], 4, 4).named("a")).unwrap_err().to_string();
    let expected = "a: the net's output for class '1' is NaN: its weights 'head.bias' hold numbers that are not finite";
    assert_eq!(message, expected);
}

/// How many pictures go through the net at once changes no bit of an answer.
#[test]
fn answers_do_not_depend_on_the_pictures_beside_them() {
    let options = crate::zoo::ZooOptions { input: Some([3, 40, 48]), ..Default::default() };
    for name in ["resnet18", "mobilenet_v2", "googlenet"] {
        let net = crate::zoo::by_name(name, &options).unwrap();
        let classifier = Classifier::untrained(net, 1).unwrap();
        let engine = Engine::new(2).unwrap();
        let pictures: Vec<Input> = (0..19_u8).map(|i| plain([9 * i, 200 - i, 77], 40, 48)).collect();
        let answers = |batch: usize| -> Vec<Vec<f32>> {
            let predictor = Predictor::with_engine(classifier.clone(), &engine).unwrap();
            let mut predictor = predictor.logits(true).batch_size(batch);
            let answers = predictor.predict_all(pictures.clone()).unwrap();
            answers.map(|answer| answer.result.unwrap().logits.unwrap()).collect()
        };
        let alone = answers(1);
        assert!([3, 16, 19].iter().all(|&batch| answers(batch) == alone), "{name}");
    }
}

#[test]
fn processes_together_find_what_one_finds() {
    let folder = tempfile::tempdir().unwrap();
    png(folder.path(), "a.png", [0, 51, 255]);
    let inputs = || {
        let colour = |i: usize| [(i * 37) as u8, (i * 91) as u8, (i * 53) as u8];
        let mut inputs: Vec<Input> = (0..23).map(|i| plain(colour(i), 4, 4)).collect();
        // Some that cannot be used.
        inputs[5] = Input::bytes(*b"no picture");
        inputs[17] = Input::path(folder.path().join("missing.png"));
        inputs[18] = Input::path(folder.path().join("a.png"));
        inputs
    };
    let answers = |processes: &Processes, count: usize| -> Vec<String> {
        let features = with_features(&["flatten_1"]).unwrap();
        let mut predictor = features.batch_size(2).logits(true).planes(true).top(2);
        let found = predictor.predict_all_among(processes, inputs().into_iter().take(count)).unwrap();
        let text = |Answer { name, result }: Answer| match result {
            Ok(prediction) => format!("{name}: {prediction:?}"),
            Err(error) => format!("{name}: {error}"),
        };
        found.map(text).collect()
    };
    for count in [0, 1, 16, 23] {
        let alone = answers(&Processes::alone(), count);
        assert_eq!(alone.len(), count);
        for size in [2, 3] {
            let all = together(size, |processes| answers(&processes, count));
            assert!(all.iter().all(|found| *found == alone), "{count} pictures, {size} processes: {all:?}");
        }
    }
    // Others than the first process has.
    let errors = together(2, |processes| {
        let count = 3 + processes.rank();
        let mut predictor = predictor();
        let found: Vec<_> =
            predictor.predict_all_among(&processes, inputs().into_iter().take(count)).unwrap().collect();
        found.last().unwrap().result.as_ref().unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("has other pictures")), "{errors:?}");
}
