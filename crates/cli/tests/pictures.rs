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
    let red = &evaluation["classes"][1];
    assert_eq!((&red["label"], &red["images"], &red["f1"]), (&"red".into(), &8.into(), &1.0.into()));
    assert_eq!((&evaluation["split"], &evaluation["confusion"]), (&"val".into(), &serde_json::json!([[8, 0], [0, 8]])));
    assert!(predict(&[]).succeeds().starts_with("pictures/val/red/5.png: red ("));
    place.write("names.txt", b"Blau\nRot\n");
    assert!(predict(&["--labels", "names.txt"]).succeeds().contains(": Rot ("));
    place.write("names.txt", b"Blau\n");
    predict(&["--labels", "names.txt"])
        .fails_with(1, "names.txt: classes for net 'cnn', which has an output for each: expected 2, got 1");
    // The held-out part alone.
    fs::remove_dir_all(place.path("pictures/train")).unwrap();
    assert_eq!(place.run(&["eval", "--run", "run", "--json"]).json()["top1"], 1.0);
}

#[test]
fn pictures_that_cannot_be_used() {
    let place = place();
    let fails = |flags: &[&str], expected: &str| place.run(&[&TRAIN[..], flags].concat()).fails_with(1, expected);
    place.write("pictures/val/red/9.png", b"\x89PNG\r\n\x1a\n cut short");
    fails(&["--input", "8x8"], "pictures/val/red/9.png: cannot be decoded as a picture");
    place.write("pictures.txt", b"no archive");
    place.run(&["train", "--data", "pictures.txt"]).fails_with(1, "line 1: no file no");
    assert_eq!(place.list("."), ["pictures", "pictures.txt"]);
}

/// The folder is read by what its entries are, and what is left out is said.
#[test]
fn other_formats_parts_and_entries() {
    let place = place();
    fs::rename(place.path("pictures/val"), place.path("pictures/valid")).unwrap();
    fs::rename(place.path("pictures/train/red/0.png"), place.path("pictures/train/red/0.jfif")).unwrap();
    place.write("pictures/train/red/notes.txt", b"no picture");
    place.write("pictures/train/.DS_Store", b"x");
    fs::create_dir_all(place.path("pictures/train/red/@eaDir/1.png")).unwrap();
    place.write("pictures/train/red/@eaDir/1.png/thumb.jpg", b"x");
    let run = place.run(&[&TRAIN[..], &["--out", "run", "--input", "8x8", "--epochs", "8", "--lr", "0.05"]].concat());
    assert!(run.stderr.contains("not read as pictures: 1 file (1 .txt)"), "{}", run.stderr);
    assert_eq!(run.code, Some(0));
    // The part alone, and the part by name.
    let eval = |flags: &[&str]| place.run(&[&["eval", "--run", "run", "--json"], flags].concat());
    assert_eq!(eval(&["--data", "pictures/valid"]).json()["images"], 16);
    assert_eq!(eval(&["--split", "train"]).json()["images"], 16);
    eval(&["--split", "test"]).fails_with(1, "expected folders test/<class> with pictures, found none");
    // Of three classes, top-5 is no measure.
    let text = place.run(&["eval", "--run", "run", "--per-class"]);
    assert!(!text.stdout.contains("top-5") && text.stdout.contains("precision"), "{}", text.stdout);
}

#[test]
fn classes_are_paired_by_name() {
    let place = place();
    let run = place.run(&[&TRAIN[..], &["--out", "run", "--input", "8x8", "--epochs", "8", "--lr", "0.05"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let eval = |flags: &[&str]| place.run(&[&["eval", "--run", "run", "--data", "other", "--json"], flags].concat());
    let name = |part: &str, class: &str| place.path(&format!("other/{part}/{class}"));
    fs::rename(place.path("pictures"), place.path("other")).unwrap();
    // Reversed by their names, and one alone.
    for part in ["train", "val"] {
        fs::rename(name(part, "red"), name(part, "Red_")).unwrap();
    }
    assert_eq!(eval(&[]).json()["top1"], 1.0);
    fs::remove_dir_all(place.path("other/train")).unwrap();
    fs::rename(name("val", "blue"), name("val", "violet")).unwrap();
    let run = eval(&[]);
    assert!(run.stderr.contains("'violet'") && run.stderr.contains("'blue'"), "{}", run.stderr);
    assert!(run.stderr.contains("--by-position") && run.code == Some(1), "{}", run.stderr);
    assert_eq!(eval(&["--by-position"]).json()["top1"], 0.0);
    fs::remove_dir_all(name("val", "violet")).unwrap();
    let one = eval(&[]).json();
    assert_eq!((&one["images"], &one["top1"]), (&8.into(), &1.0.into()));
}

#[test]
fn a_bad_picture_does_not_lose_the_others() {
    let place = place();
    place.run(&[&TRAIN[..], &["--out", "run", "--input", "8x8", "--epochs", "8", "--lr", "0.05"]].concat()).json();
    fs::create_dir(place.path("mixed")).unwrap();
    for (to, from) in [("0.png", "val/red/3.png"), ("2.png", "val/blue/3.png")] {
        place.write(&format!("mixed/{to}"), &place.read(&format!("pictures/{from}")));
    }
    place.write("mixed/1.jpg", b"");
    let run = place.run(&["predict", "--run", "run", "mixed", "--json"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("mixed/1.jpg: the file is empty"), "{}", run.stderr);
    assert!(run.stderr.contains("1 of 3 pictures could not be used"), "{}", run.stderr);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let labels: Vec<_> =
        document["predictions"].as_array().unwrap().iter().map(|p| p["top"][0]["label"].clone()).collect();
    assert_eq!(labels, ["red".into(), serde_json::Value::Null, "blue".into()]);
    assert_eq!(document["predictions"][1]["error"], "mixed/1.jpg: the file is empty");
    // In an evaluation it does not count.
    place.write("pictures/val/red/9.png", b"GIF89a");
    let run = place.run(&["eval", "--run", "run", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &document["images"], &document["unusable"]), (Some(1), &16.into(), &1.into()));
}

#[test]
fn preprocessing_can_be_said() {
    let place = place();
    place.run(&[&TRAIN[..], &["--out", "run", "--input", "8x8", "--epochs", "1"]].concat()).json();
    let predict = |flags: &[&str]| {
        let picture = "pictures/val/red/5.png";
        place.run(&[&["predict", "--run", "run", picture, "--logits", "--json"], flags].concat())
    };
    let [usual, said] = [&[][..], &["--mean", "0", "--std", "1", "--resize", "9"]].map(|flags| predict(flags).json());
    assert_eq!(usual["predictions"], said["predictions"]);
    assert_eq!((&usual["preprocessing"]["resize"], &usual["preprocessing"]["assumed"]), (&9.into(), &false.into()));
    let other =
        predict(&["--mean", "0.5", "--std", "0.25,0.25,0.5", "--interpolation", "bicubic", "--crop-pct", "0.5"]).json();
    assert_ne!(usual["predictions"], other["predictions"]);
    let shown = &other["preprocessing"];
    assert_eq!((&shown["resize"], &shown["interpolation"]), (&16.into(), &"bicubic".into()));
    assert_eq!(shown["std"], serde_json::json!([0.25, 0.25, 0.5]));
    predict(&["--mean", "0.5,0.5", "--std", "1"]).fails_with(2, "--mean: 2 values, but the network takes 3 channels");
    predict(&["--resize", "7"]).fails_with(2, "resizing the shorter side to 7 pixels: expected 8");
}

/// What a name does to a terminal is not done, but the name itself stands in JSON.
#[cfg(unix)]
#[test]
fn control_characters_in_names_are_spelled_out() {
    let place = place();
    place.run(&[&TRAIN[..], &["--out", "run", "--input", "8x8", "--epochs", "1"]].concat()).json();
    let name = "pictures/val/red/\u{1b}[31mx\r.png";
    fs::copy(place.path("pictures/val/red/5.png"), place.path(name)).unwrap();
    let shown = "pictures/val/red/\\u{1b}[31mx\\r.png";
    let predict = |flags: &[&str]| place.run(&[&["predict", "--run", "run"], flags].concat());
    let line = predict(&[name]).succeeds();
    assert!(line.starts_with(&format!("{shown}: ")), "{line:?}");
    assert_eq!(predict(&[name, "--json"]).json()["predictions"][0]["path"], name);
    place.write(name, b"no picture");
    predict(&[name]).fails_with(1, &format!("error: {shown}: not a PNG"));
    let run = predict(&[name, "pictures/val/red/5.png"]);
    assert!(run.stderr.starts_with(&format!("warning: {shown}: not a PNG")), "{:?}", run.stderr);
    let table = place.run(&["data", "check", "pictures"]);
    assert!(table.stdout.contains(&format!("  {shown}: not a PNG")), "{:?}", table.stdout);
}
