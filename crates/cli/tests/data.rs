//! Data sets of every form, from `data check` and `pack` to a trained network.

mod common;

use std::fs;

use common::Place;
use convnet::data::augment::Transform;
use convnet::data::picture::write_png;

const CLASSES: [(&str, [u8; 3]); 2] = [("blue", [10, 20, 200]), ("red", [220, 30, 40])];

/// A folder `photos` with `train/` and `val/`, of pictures of many sizes, no two of which are the same.
fn place() -> Place {
    let place = Place::new();
    for (part, add) in [("train", 0), ("val", 20)] {
        for (class, colour) in CLASSES {
            let folder = place.path(&format!("photos/{part}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..8 {
                let (height, width) = (9 + number, 17 - number);
                let value = |value: &u8| vec![value + number as u8 + add; height * width];
                let planes: Vec<u8> = colour.iter().flat_map(value).collect();
                write_png(&folder.join(format!("{number}.png")), [3, height, width], &planes).unwrap();
            }
        }
    }
    place
}

const SMALL: [&str; 12] =
    ["--cdims", "2", "--hdims", "", "--input", "8x8", "--batch-size", "4", "--epochs", "2", "--lr", "0.01"];

/// The hash of the weights of a run on these data.
fn hash(place: &Place, data: &str, out: &str, flags: &[&str]) -> String {
    let run = place.run(&[&["train", "--data", data, "--out", out, "--json"], &SMALL[..], flags].concat());
    run.json()["weights_sha256"].as_str().unwrap().to_owned()
}

#[test]
fn neither_cache_nor_workers_nor_a_list_change_a_run() {
    let place = place();
    let expected = hash(&place, "photos", "a", &["--augment", "imagenet"]);
    for (out, flags) in [("b", ["--cache", "0", "--workers", "1"]), ("c", ["--cache", "0", "--workers", "3"])] {
        assert_eq!(hash(&place, "photos", out, &[&["--augment", "imagenet"], &flags[..]].concat()), expected);
    }
    let mut list = "path,label,split\n".to_owned();
    for part in ["train", "val"] {
        for (class, _) in CLASSES {
            (0..8).for_each(|number| list += &format!("photos/{part}/{class}/{number}.png,{class},{part}\n"));
        }
    }
    place.write("list.csv", list.as_bytes());
    assert_eq!(hash(&place, "list.csv", "d", &["--augment", "imagenet", "--cache", "0"]), expected);
    let metrics = String::from_utf8(place.read("b/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"data_wait\":"), "{metrics}");
    // Stopped in the middle of an epoch, a run goes on to the same end.
    let stopped = ["--augment", "imagenet", "--cache", "0", "--max-steps", "5"];
    assert_ne!(hash(&place, "photos", "e", &stopped), expected);
    let resumed = place.run(&["train", "--resume", "e", "--json", "--workers", "2", "--cache", "100"]).json();
    assert_eq!(resumed["weights_sha256"], expected.as_str());
}

/// Every transform there is, mixing and smoothing: nothing of it depends on who makes the pictures, or computes.
#[test]
fn neither_workers_nor_threads_change_a_run_with_every_augmentation() {
    let all = r#"[{ resize = { size = 14 } }, { random_crop = { size = [12, 12], padding = 3, padding_mode = "reflect" } },
        "random_resized_crop", "horizontal_flip", "vertical_flip", { rotation = { degrees = 20 } },
        { affine = { degrees = 5, translate = [0.1, 0.1] } }, { perspective = { p = 1 } },
        { color_jitter = { brightness = 0.4, contrast = 0.3, saturation = 0.3, hue = 0.1 } }, "grayscale",
        { gaussian_blur = { kernel_size = [3, 5] } }, { posterize = { bits = 4, p = 0.5 } }, "solarize", "equalize",
        "autocontrast", "invert", { sharpness = { factor = 2 } }, "pca_noise", "rand_augment", "trivial_augment_wide",
        "aug_mix", { center_crop = { size = [8, 8] } }, { random_erasing = { value = "random" } }]"#;
    let missing = Transform::NAMES.iter().filter(|name| !all.contains(**name)).collect::<Vec<_>>();
    assert!(missing.is_empty(), "not tested: {missing:?}");
    let place = place();
    let flags =
        ["--augment", all, "--mixup-alpha", "0.2", "--cutmix-alpha", "1", "--label-smoothing", "0.1", "--ema", "0.9"];
    let run = |workers: &str, threads: &str| {
        let own = ["--workers", workers, "--threads", threads, "--cache", "0"];
        hash(&place, "photos", &format!("{workers}x{threads}"), &[&flags[..], &own].concat())
    };
    let expected = run("1", "1");
    for (workers, threads) in [("2", "1"), ("4", "1"), ("1", "2"), ("2", "2"), ("4", "2")] {
        assert_eq!(run(workers, threads), expected, "{workers} workers, {threads} threads");
    }
    assert_ne!(hash(&place, "photos", "seed", &[&flags[..], &["--seed", "1"]].concat()), expected);
}

#[test]
fn test_pictures_are_measured_once_and_choose_nothing() {
    let place = place();
    let without = hash(&place, "photos", "without", &[]);
    for (class, _) in CLASSES {
        fs::create_dir_all(place.path(&format!("photos/test/{class}"))).unwrap();
        let (from, to) = (format!("photos/train/{class}/0.png"), format!("photos/test/{class}/0.png"));
        fs::copy(place.path(&from), place.path(&to)).unwrap();
    }
    let arguments = [&["train", "--data", "photos", "--out", "run"], &SMALL[..]].concat();
    let run = place.run(&arguments);
    assert!(run.stdout.contains(" % of 2 test pictures, measured once"), "{}", run.stdout);
    let report = place.run(&["train", "--resume", "run", "--json"]).json();
    assert_eq!(report["weights_sha256"], without.as_str());
    let test = &report["test"];
    let evaluation = place.run(&["eval", "--run", "run", "--split", "test", "--json"]).json();
    assert_eq!(
        (&test["images"], &test["accuracy"], &test["loss"]),
        (&2.into(), &evaluation["top1"], &evaluation["loss"])
    );
    let html = String::from_utf8(place.read("run/report.html")).unwrap();
    assert!(html.contains("Test accuracy") && html.contains("n = 2; measured once") && html.contains("(val)"));
    let compared = place.run(&["compare", "run", "without", "--json"]).json();
    assert_eq!((&compared["runs"][0]["test"], compared["runs"][1]["test"].is_null()), (test, true));
    assert!(place.run(&["compare", "run", "without"]).succeeds().contains("test accuracy"));
    // What goes on has not been measured yet.
    place.run(&["train", "--resume", "run", "--epochs", "3", "--max-steps", "9", "--json"]).json();
    place.write("run/test.json", b"{}");
    place.run(&["compare", "run"]).fails_with(1, "run/test.json: expected the result of a test");
    place.run(&["train", "--resume", "run", "--json"]).json();
    // Pictures without classes are no reason not to train.
    fs::remove_dir_all(place.path("photos/test")).unwrap();
    fs::create_dir(place.path("photos/test")).unwrap();
    fs::copy(place.path("photos/train/red/0.png"), place.path("photos/test/0.png")).unwrap();
    let run = place.run(&[&["train", "--data", "photos", "--out", "loose"], &SMALL[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stderr.contains("the test part will not be measured: it has no pictures in a folder"),
        "{}",
        run.stderr
    );
    assert!(!place.path("loose/test.json").exists());
}

#[test]
fn packed_sets_are_trained_on_and_checked() {
    let place = place();
    let packed = place.run(&["pack", "photos", "-o", "out-{}.tar", "--json"]).json();
    assert_eq!((&packed["pictures"], packed["shards"].as_array().unwrap().len()), (&32.into(), 2));
    place.run(&["pack", "photos", "-o", "out-{}.tar"]).fails_with(1, "there is such a shard already");
    place.write("photos/train/red/9.png", b"no picture");
    let refused = place.run(&["pack", "photos", "-o", "bad-{}.tar"]);
    refused.fails_with(1, "photos/train/red/9.png: not a PNG");
    refused.fails_with(1, "--skip-bad leaves out such pictures");
    let run = place.run(&["pack", "photos", "-o", "bad-{}.tar", "--skip-bad"]);
    assert!(run.stdout.starts_with("32 pictures in 2 shards, "), "{}", run.stdout);
    assert!(
        run.stderr.contains("warning: left out: 1 picture that cannot be used: photos/train/red/9.png: "),
        "{}",
        run.stderr
    );
    fs::remove_file(place.path("photos/train/red/9.png")).unwrap();
    let shards = "out-{train,val}-{000000..000000}.tar";
    hash(&place, shards, "run", &[]);
    let evaluation = place.run(&["eval", "--run", "run", "--json"]).json();
    assert_eq!((&evaluation["images"], &evaluation["split"]), (&16.into(), &"val".into()));
    let check = place.run(&["data", "check", shards, "--json"]).json();
    assert_eq!((&check["sound"], &check["parts"][0]["classes"][1][1]), (&true.into(), &8.into()));
    place.run(&["train", "--data", "out-{0..3}.tar"]).fails_with(1, "shards missing: 4 of 4");
}

#[test]
fn what_is_wrong_with_a_set_is_told_in_one_go() {
    let place = place();
    let text = place.run(&["data", "check", "photos"]).succeeds();
    assert!(
        text.contains(
            "train: 16 pictures in 2 classes, 8 sizes: width 10 to 17 (median 14), height 9 to 16 (median 13)"
        ),
        "{text}"
    );
    assert!(text.ends_with("Nothing is wrong.\n"), "{text}");
    fs::copy(place.path("photos/train/red/1.png"), place.path("photos/val/blue/leak.png")).unwrap();
    fs::copy(place.path("photos/train/red/2.png"), place.path("photos/train/red/twice.png")).unwrap();
    place.write("photos/train/red/bad.png", b"no picture");
    let run = place.run(&["data", "check", "photos"]);
    assert_eq!(run.code, Some(1));
    for expected in [
        "1 picture that cannot be read:\n  photos/train/red/bad.png: not a PNG",
        "1 group of the same pictures in different parts:\n  photos/train/red/1.png (train, red) = photos/val/blue/leak.png (val, blue)",
        "1 group of the same pictures in one class:",
    ] {
        assert!(run.stdout.contains(expected), "{}", run.stdout);
    }
}

#[test]
fn bad_pictures_are_left_out_for_good() {
    let place = place();
    let clean = hash(&place, "photos", "clean", &["--skip-bad"]);
    place.write("photos/train/red/3x.png", b"no picture");
    place.write("photos/val/blue/0x.png", b"");
    let run = place.run(&[&["train", "--data", "photos", "--out", "bad"], &SMALL[..]].concat());
    run.fails_with(1, "photos/train/red/3x.png: not a PNG");
    // Where they are decoded as they are wanted, the first that is met has all of them looked at.
    place.write("photos/train/blue/5x.png", &place.read("photos/train/blue/5.png")[..60]);
    let run = place.run(&[&["train", "--data", "photos", "--out", "late", "--cache", "0"], &SMALL[..]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("error: 3 pictures cannot be used:"), "{}", run.stderr);
    for expected in
        ["train/red/3x.png: not a PNG", "train/blue/5x.png: ", "val/blue/0x.png: ", "--skip-bad leaves them out"]
    {
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
    fs::remove_file(place.path("photos/train/blue/5x.png")).unwrap();
    let run =
        place.run(&[&["train", "--data", "photos", "--out", "run", "--skip-bad", "--cache", "0"], &SMALL[..]].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("left out: 1 picture that cannot be used: "), "{}", run.stderr);
    let left_out = String::from_utf8(place.read("run/left-out.jsonl")).unwrap();
    assert_eq!(left_out.lines().count(), 2, "{left_out}");
    // The same set as without these files, and the same after a resume, whatever becomes of them.
    let stopped = hash(&place, "photos", "stopped", &["--skip-bad", "--max-steps", "3"]);
    assert_ne!(stopped, clean);
    fs::copy(place.path("photos/train/red/3.png"), place.path("photos/train/red/3x.png")).unwrap();
    let resumed = place.run(&["train", "--resume", "stopped", "--json"]).json();
    assert_eq!(resumed["weights_sha256"], clean.as_str());
}

/// Lines without a file and links in circles leave nothing to train on but the pictures.
#[cfg(unix)]
#[test]
fn what_is_not_there_is_left_out() {
    let place = place();
    let clean = hash(&place, "photos", "clean", &["--augment", "light"]);
    let html = String::from_utf8(place.read("clean/report.html")).unwrap();
    assert_eq!(html.split_once("id=\"augmented\"").unwrap().1.matches("data:image/png").count(), 12 + 2);
    std::os::unix::fs::symlink("..", place.path("photos/train/red/up")).unwrap();
    std::os::unix::fs::symlink("self", place.path("photos/val/red/self")).unwrap();
    let arguments =
        [&["train", "--data", "photos", "--out", "links", "--augment", "light", "--json"], &SMALL[..]].concat();
    let run = place.run(&arguments);
    for expected in ["not followed: 1 link in a circle", "not followed: 1 link to what is not there"] {
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
    assert_eq!(run.json()["weights_sha256"], clean.as_str());
    let mut list = "path,label,split\n".to_owned();
    for part in ["train", "val"] {
        for (class, _) in CLASSES {
            (0..9).for_each(|number| list += &format!("photos/{part}/{class}/{number}.png,{class},{part}\n"));
        }
    }
    place.write("list.csv", list.as_bytes());
    let train = |flags: &[&str]| {
        let arguments = [&["train", "--data", "list.csv", "--augment", "light", "--json"], &SMALL[..], flags].concat();
        place.run(&arguments)
    };
    train(&["--out", "refused"]).fails_with(1, "list.csv: 4 lines not as expected:");
    let run = train(&["--out", "list", "--skip-bad"]);
    assert!(run.stderr.contains("left out: 2 pictures that cannot be used: "), "{}", run.stderr);
    assert_eq!(run.json()["weights_sha256"], clean.as_str());
    assert_eq!(place.run(&["eval", "--run", "list", "--json"]).json()["images"], 16);
}

#[test]
fn deleting_bad_pictures_changes_nothing() {
    let place = place();
    let clean = hash(&place, "photos", "clean", &["--skip-bad"]);
    place.write("photos/train/blue/0a.png", b"no picture");
    hash(&place, "photos", "run", &["--skip-bad", "--max-steps", "3"]);
    fs::remove_file(place.path("photos/train/blue/0a.png")).unwrap();
    let resumed = place.run(&["train", "--resume", "run", "--json"]).json();
    assert_eq!(resumed["weights_sha256"], clean.as_str());
}

#[test]
fn what_a_run_held_out_stays_unseen() {
    let place = place();
    for (from, to) in [("photos/train/red", "flat/red"), ("photos/train/blue", "flat/blue")] {
        fs::create_dir_all(place.path("flat")).unwrap();
        fs::rename(place.path(from), place.path(to)).unwrap();
    }
    let count = |class: &str| fs::read_dir(place.path(&format!("flat/{class}"))).unwrap().count();
    let all = count("red") + count("blue");
    hash(&place, "flat", "run", &["--val-split", "0.4"]);
    let images = |split: &str| {
        let run = place.run(&["eval", "--run", "run", "--split", split, "--json"]).json();
        run["images"].as_u64().unwrap() as usize
    };
    let (held_out, trained) = (images("val"), images("train"));
    assert!(held_out > 0 && held_out + trained == all, "{held_out} and {trained} of {all}");
    let refused = place.run(&["eval", "--run", "run", "--split", "test"]);
    refused.fails_with(1, "expected a part test, found folders of classes alone");
    fs::copy(place.path("flat/red/1.png"), place.path("flat/red/11.png")).unwrap();
    place.run(&["eval", "--run", "run"]).fails_with(1, "nobody can tell which it held out");
    fs::remove_file(place.path("flat/red/11.png")).unwrap();
    fs::rename(place.path("flat/red"), place.path("flat/aqua")).unwrap();
    let renamed = place.run(&["train", "--resume", "run", "--epochs", "3"]);
    renamed.fails_with(1, "the run has learned other classes than those of");
}

#[test]
fn a_contact_sheet_is_drawn() {
    let place = place();
    for flags in [&[][..], &["--augment", "light", "--split", "val"], &["--augment", "imagenet-v2", "--input", "32x32"]]
    {
        let run = place.run(&[&["data", "show", "photos", "-o", "sheet.png"], flags].concat());
        assert_eq!(run.succeeds(), "sheet.png\n");
        assert!(place.read("sheet.png").starts_with(b"\x89PNG"));
    }
    place.run(&["data", "show", "photos", "--augment", "lihgt"]).fails_with(2, "did you mean 'light'?");
    place.run(&["data", "show", "photos", "--split", "test"]).fails_with(1, "the data have no part test");
}
