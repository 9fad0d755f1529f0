//! `convnet explain`: maps, fields, features, filters and the sanity check, and what it does with bad input.

mod common;

use common::{Place, Run};
use convnet::data::bitmap::Bitmap;
use convnet::data::npy;
use serde_json::json;

/// A place with a run of the small net and a picture.
fn place() -> Place {
    let place = Place::with_data();
    place.train(&["--epochs", "1", "--out", "run", "-q"]).succeeds();
    let pixels = (0..64).map(|i| (i * 37 % 200) as u8).collect();
    Bitmap::new([1, 8, 8], pixels).unwrap().write(&place.path("a.png")).unwrap();
    place
}

fn explain(place: &Place, arguments: &[&str]) -> Run {
    place.run(&[&["explain"], arguments, &["--run", "run"]].concat())
}

#[test]
fn maps_are_drawn_and_written() {
    let place = place();
    let line = explain(&place, &["a.png", "--class", "3", "-q"]).succeeds();
    assert!(
        line.starts_with("a.png: 3 (") && line.ends_with("grad-cam by the maps of pool1: explained/a.png\n"),
        "{line}"
    );
    let methods = "grad-cam,grad-cam++,hires-cam,layer-cam,saliency,input-x-gradient,smooth-grad,integrated-gradients,guided-backprop,occlusion";
    let found =
        explain(&place, &["a.png", "a.png", "--method", methods, "--npy", "--json", "--out", "o", "--samples", "3"])
            .json();
    assert_eq!(found["pictures"].as_array().unwrap().len(), 2);
    assert_eq!(found["pictures"][1]["out"], "o/a-2.png");
    let explanations = found["pictures"][0]["explanations"].as_array().unwrap();
    assert_eq!(explanations.len(), 10);
    for explanation in explanations {
        let map = npy::read(&place.path(explanation["npy"].as_str().unwrap())).unwrap();
        let side = if explanation["layer"].is_null() { 8 } else { 4 };
        assert_eq!(map.shape(), [1, side, side], "{explanation}");
    }
    assert!(explanations[7]["completeness_error"].is_number() && explanations[0].get("completeness_error").is_none());
    assert!(explanations[8]["caution"].as_str().unwrap().contains("fails the sanity check"));
    let [height, width] = Bitmap::read(&place.path("o/a.png")).unwrap().size();
    assert!(height > 900 && width > 1000);
}

#[test]
fn fields_features_filters_and_the_sanity_check() {
    let place = place();
    let found = explain(&place, &["field", "a.png", "--layer", "conv1,pool1", "--unit", "0,3", "--json", "-q"]).json();
    let layers = &found["layers"];
    assert_eq!((&layers[0]["rows"], &layers[0]["columns"]), (&json!([0, 2]), &json!([2, 5])));
    assert_eq!((&layers[1]["rows"], &layers[1]["columns"]), (&json!([0, 3]), &json!([5, 8])));
    let lines = explain(&place, &["features", "a.png", "--layer", "relu1", "--npy", "-q"]).succeeds();
    assert_eq!(lines, "relu1: 2x8x8: explained/a-relu1.png\n");
    assert_eq!(npy::read(&place.path("explained/a-relu1.npy")).unwrap().shape(), [2, 8, 8]);
    assert_eq!(explain(&place, &["filters"]).succeeds(), "conv1: 2x1x3x3: filters.png\n");
    let table = explain(&place, &["sanity", "a.png", "-q"]).succeeds();
    assert!(table.contains("random from the top to") && table.contains("1 picture\n"), "{table}");
    let found = explain(&place, &["sanity", "a.png", "--method", "saliency", "--json", "-q"]).json();
    assert_eq!(found["methods"][0]["steps"].as_array().unwrap().len(), 3);
}

#[test]
fn data_sets_show_what_a_network_has_learned() {
    let place = place();
    let data = ["--data", "data", "-q"];
    let with = |arguments: &[&str]| explain(&place, &[arguments, &data[..]].concat());
    let found = with(&["strongest", "--layer", "relu1", "--channel", "1", "--count", "4", "--json"]).json();
    let pictures = found["channels"][0]["pictures"].as_array().unwrap();
    let values: Vec<f64> = pictures.iter().map(|picture| picture["value"].as_f64().unwrap()).collect();
    assert!(values.len() == 4 && values.is_sorted_by(|a, b| a >= b), "{values:?}");
    assert!(place.path("strongest.png").exists());
    // A picture of the set is the nearest one to itself.
    let image = convnet::data::Source::parse(place.path("data").to_str().unwrap()).unwrap();
    let image = image.load(convnet::data::Sizing::default()).unwrap().train;
    Bitmap::new([1, 8, 8], image.image(7).unwrap().to_vec()).unwrap().write(&place.path("seven.png")).unwrap();
    let found = with(&["nearest", "seven.png", "--json", "--count", "3"]).json();
    let nearest = &found["pictures"][0];
    assert!((nearest["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{found}");
    assert!(nearest["picture"].as_str().unwrap().ends_with("[7]"), "{found}");
    let line = with(&["map", "--npy", "features.npy"]).succeeds();
    assert!(line.contains(": 50 pictures, 8 features, ") && line.ends_with("map.png\n"), "{line}");
    assert_eq!(npy::read(&place.path("features.npy")).unwrap().shape(), [50, 8]);
    let lines = explain(&place, &["maximize", "--class", "3,5", "--steps", "30", "-q"]).succeeds();
    for line in lines.lines().take(2) {
        let numbers: Vec<f64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        assert!(numbers.last() > numbers.first(), "{line}");
    }
    explain(&place, &["maximize", "--layer", "relu1", "-q"]).succeeds();
    explain(&place, &["maximize", "--layer", "rlu", "-q"]).fails_with(2, "has no layer 'rlu'");
    with(&["strongest", "--layer", "relu1", "--channel", "2"]).fails_with(2, "channel: expected below 2, got 2");
    with(&["strongest", "--layer", "head"]).fails_with(2, "a vector of 10 numbers");
}

#[test]
fn bad_input_is_explained() {
    let place = place();
    let fails = |arguments: &[&str], code: i32, expected: &str| explain(&place, arguments).fails_with(code, expected);
    fails(&["a.png", "--layer", "pool2", "-q"], 2, "has no layer 'pool2': did you mean 'pool1'?");
    fails(&["a.png", "--layer", "head", "-q"], 2, "a vector of 10 numbers; the last such layer is 'pool1'");
    fails(&["a.png", "--class", "10", "-q"], 2, "expected labels below 10");
    fails(&["a.png", "--class", "cat", "-q"], 2, "unknown class 'cat'");
    fails(&["a.png", "--method", "gradcam2", "-q"], 2, "unknown method 'gradcam2'");
    fails(&["a.png", "--method", "occlusion", "--window", "9", "-q"], 2, "at most 8");
    fails(&["b.png", "-q"], 1, "b.png");
    fails(&["data", "-q"], 1, "data");
    fails(&["field", "a.png", "--layer", "conv1", "--unit", "8,0", "-q"], 2, "a row below 8");
    fails(&["field", "a.png", "--layer", "head", "-q"], 2, "a vector of 10 numbers");
    place.run(&["explain", "a.png"]).fails_with(2, "--run");
    place.run(&["explain"]).fails_with(2, "FILE");
    place.write("broken.png", b"no picture");
    let run = explain(&place, &["a.png", "broken.png", "-q"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stdout.starts_with("a.png: ") && run.stderr.contains("warning: broken.png"), "{}", run.stderr);
    assert!(run.stderr.ends_with("1 of 2 pictures could not be used: see the warnings\n"), "{}", run.stderr);
}
