//! The road of a folder of pictures: train, eval and predict, with pictures of any size.

mod common;

use std::fs;

use common::Place;
use convnet::data::picture::write_png;

/// Red and blue pictures, of other sizes than the net's, in a folder `pictures`.
fn place() -> Place {
    let place = Place::new();
    for part in ["train", "val"] {
        for (class, colour) in [("blue", [10, 20, 200]), ("red", [220, 30, 40])] {
            let folder = place.path(&format!("pictures/{part}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..8 {
                let (height, width) = (9 + number, 17 - number);
                let planes =
                    colour.iter().flat_map(|&value| vec![value + number as u8; height * width]).collect::<Vec<_>>();
                write_png(&folder.join(format!("{number}.png")), [3, height, width], &planes).unwrap();
            }
        }
    }
    place
}

const TRAIN: [&str; 10] = ["train", "--data", "pictures", "--cdims", "2", "--hdims", "", "--batch-size", "8", "--json"];

#[test]
fn pictures_of_any_size_are_learned_and_recognised() {
    let place = place();
    let run = |flags: &[&str]| place.run(&[&TRAIN[..], flags].concat());
    run(&["--out", "run", "--input", "8x8", "--epochs", "8", "--lr", "0.05"]).json();
    assert!(fs::read_to_string(place.path("run/config.toml")).unwrap().contains("input = [3, 8, 8]"));
    let evaluation = place.run(&["eval", "--run", "run", "--json"]).json();
    assert_eq!((&evaluation["images"], &evaluation["top1"]), (&16.into(), &1.0.into()));
    let picture = "pictures/val/red/5.png";
    let predict = |flags: &[&str]| place.run(&[&["predict", "--run", "run", picture], flags].concat());
    assert!(predict(&[]).succeeds().starts_with("pictures/val/red/5.png: red ("));
    place.write("names.txt", b"Blau\nRot\n");
    assert!(predict(&["--labels", "names.txt"]).succeeds().contains(": Rot ("));
    place.write("names.txt", b"Blau\n");
    predict(&["--labels", "names.txt"]).fails_with(1, "names.txt: net 'cnn': expected an output for each of 1 classes");
    // The held-out part alone.
    fs::remove_dir_all(place.path("pictures/train")).unwrap();
    assert_eq!(place.run(&["eval", "--run", "run", "--json"]).json()["top1"], 1.0);
}

#[test]
fn pictures_that_cannot_be_used() {
    let place = place();
    let fails = |flags: &[&str], expected: &str| place.run(&[&TRAIN[..], flags].concat()).fails_with(1, expected);
    fails(&[], "pictures/train/blue/1.png: a picture of 16x10 pixels, but the net takes 17x9");
    fails(&["--input", "1x8x8"], "pictures/train/blue/0.png: a picture of 17x9 pixels, but the net takes 8x8");
    let digits = place.run(&["train", "--data", "digits", "--input", "8x8"]);
    digits.fails_with(1, "input: 3x8x8, but the pictures are 1x28x28");
    place.write("pictures/val/red/9.png", b"\x89PNG\r\n\x1a\n cut short");
    fails(&["--input", "8x8"], "pictures/val/red/9.png: cannot be decoded as a picture");
    place.write("pictures.txt", b"no archive");
    place.run(&["train", "--data", "pictures.txt"]).fails_with(1, "pictures.txt: expected a folder, or a .tar");
    assert_eq!(place.list("."), ["pictures", "pictures.txt"]);
}
