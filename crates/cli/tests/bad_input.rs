//! Bad input: each a clear error, a non-zero exit, and nothing half-written.

mod common;

use std::fs;

use common::{Place, SMALL, images, labels};

/// Trains on spoilt data: it must fail with this message, and leave no run.
#[track_caller]
fn training_fails(spoil: impl FnOnce(&Place), flags: &[&str], expected: &str) {
    training_exits_with(1, spoil, flags, expected);
}

/// The same with another exit code.
#[track_caller]
fn training_exits_with(code: i32, spoil: impl FnOnce(&Place), flags: &[&str], expected: &str) {
    let place = Place::with_data();
    spoil(&place);
    place.train(&[&["--out", "run"], flags].concat()).fails_with(code, expected);
    assert!(!place.path("run").exists());
}

const IMAGES: &str = "data/train-images-idx3-ubyte";
const LABELS: &str = "data/train-labels-idx1-ubyte";

#[test]
fn idx_files_that_cannot_be_used() {
    let digits = |count: usize| labels((0..count).map(|i| (i % 10) as u8));
    training_fails(|place| fs::remove_file(place.path(LABELS)).unwrap(), &[], "data: missing train-labels-idx1-ubyte");
    training_fails(|place| fs::remove_dir_all(place.path("data")).unwrap(), &[], "no data set or folder 'data'");
    training_fails(|place| place.write(IMAGES, &images(50, 8)[..1000]), &[], "train-images-idx3-ubyte");
    training_fails(|place| place.write(IMAGES, b""), &[], "train-images-idx3-ubyte");
    training_fails(|place| place.write(IMAGES, &digits(50)), &[], "train-images-idx3-ubyte");
    training_fails(|place| place.write(LABELS, &images(50, 8)), &[], "train-labels-idx1-ubyte");
    training_fails(|place| place.write(LABELS, &digits(49)), &[], "49 labels, but data/train-images-idx3-ubyte has 50");
    training_fails(|place| place.write(LABELS, &labels(vec![10; 50].into_iter())), &[], "label 10 of picture 0");
    training_fails(|place| place.write("data/t10k-images-idx3-ubyte", &images(20, 9)), &[], "pictures of 9x9");
    let none = |place: &Place| {
        place.write(IMAGES, &images(0, 8));
        place.write(LABELS, &digits(0));
    };
    training_fails(none, &[], "train-images-idx3-ubyte: the header says [0, 8, 8] pictures");
    // A header that claims 4 GB.
    let lying = |place: &Place| {
        let mut file = images(50, 8);
        file[4..8].copy_from_slice(&(1_u32 << 26).to_be_bytes());
        place.write(IMAGES, &file);
    };
    training_fails(lying, &[], "train-images-idx3-ubyte");
}

#[test]
fn settings_that_make_no_sense() {
    let fine = |_: &Place| ();
    let refused = |flags: &[&str], expected: &str| training_exits_with(2, fine, flags, expected);
    refused(&["--lr", "-1"], "lr: expected a number above 0, got -1.0");
    refused(&["--lr", "nan"], "lr: expected a number above 0, got NaN");
    refused(&["--dropout", "1"], "dropout: expected a number from 0 to below 1");
    refused(&["--model", "cn"], "unknown model 'cn': did you mean 'cnn'?");
    refused(&["--ksize", "0"], "ksize: expected at least 1, got 0");
    refused(&["--threads", "1025"], "expected a whole number from 0 to 1024");
    for mode in ["train", "infer"] {
        let too_many = ["bench", "--mode", mode, "--batch-size", "99999999999"];
        Place::new().run(&too_many).fails_with(1, "use a smaller batch size");
    }
    training_fails(fine, &["--ksize", "9"], "cnn: expected a picture of at least 1x9x9, got 1x8x8");
    training_fails(fine, &["--config", "none.toml"], "reading none.toml: ");
    training_fails(
        |place| place.write("my.toml", b"bach_size = 3\n"),
        &["--config", "my.toml"],
        "my.toml: line 1: there is no setting 'bach_size': did you mean 'batch_size'?",
    );
    // The same values in a file are the file's fault.
    for (text, expected) in
        [("lr = -1.0\n", "lr: expected a number above 0"), ("model = 'cn'\n", "did you mean 'cnn'?")]
    {
        training_fails(|place| place.write("my.toml", text.as_bytes()), &["--config", "my.toml"], expected);
    }
    let place = Place::with_data();
    let huge = u64::MAX.to_string();
    for flag in ["--batch-size", "--epochs", "--max-steps", "--seed"] {
        for value in ["many", &huge, "0"] {
            if (flag, value) != ("--seed", "0") {
                let run = place.run(&[&["train", "--out", "run"], &SMALL[..6], &[flag, value]].concat());
                // Clap names the flag of a text that is no number, the library the setting whose number makes no sense.
                let named = if value == "0" { flag[2..].replace('-', "_") } else { flag.to_owned() };
                run.fails_with(2, &named);
            }
        }
    }
    let mut command = place.command(&[&["train", "--out", "run"], &SMALL[..6]].concat());
    let run: common::Run = command.env("CONVNET_BATCH_SIZE", "0").output().unwrap().into();
    run.fails_with(1, "batch_size: expected at least 1, got 0");
    let mut command = place.command(&[&["train", "--out", "run"], &SMALL[..]].concat());
    let run: common::Run = command.env("CONVNET_LR", "fast").output().unwrap().into();
    run.fails_with(1, "CONVNET_LR: expected a number, got 'fast'");
    assert!(!place.path("run").exists());
}

#[test]
fn command_lines_that_cannot_be_understood() {
    let place = Place::with_data();
    for (arguments, expected) in [
        (&["train", "--epoch", "3"][..], "a similar argument exists: '--epochs'"),
        (&["train", "--opt", "adagrad"], "possible values: adam, adamw, sgd, lamb, muon"),
        (&["train", "--resume", "run", "--lr", "1"], "cannot be used with"),
        (&["train", "--net", "x.toml", "--cdims", "3"], "cannot be used with"),
        (&["eval"], "expected --run RUN or --weights FILE"),
        (&["eval", "--run", "a", "--weights", "b"], "cannot be used with"),
        (&["predict", "--run", "a"], "required"),
        (&["bench", "--mode", "fast"], "possible values: train, infer"),
        (&["bench", "--batch-size", "0"], "expected at least 1"),
        (&["bench", "--repeats", "x"], "expected a whole number"),
        (&["bench", "--opt", "adamw"], "possible values: adam, sgd"),
        (&["bench", "--turns", "--json"], "cannot be used with"),
        (&["bench", "resnet5"], "unknown model 'resnet5': did you mean 'resnet50'?"),
        (&["eval", "--weights", "w.pt", "--model", "resnet5"], "did you mean 'resnet50'?"),
        (&["train", "--data", "data", "--download"], "only the data set 'mnist' can be"),
    ] {
        place.run(arguments).fails_with(2, expected);
    }
    place.run(&["train", "--data", "digit"]).fails_with(1, "did you mean 'digits'?");
    place.run(&["train", "--data", "mnist"]).fails_with(1, "--data mnist --download");
    assert_eq!(place.list("."), ["data"]);
}

#[test]
fn nets_that_do_not_fit_their_data() {
    let place = Place::with_data();
    let linear = "[[layer]]\nop = 'flatten'\n[[layer]]\nop = 'linear'\nout_features = ";
    for (text, expected) in [
        (
            "input = [1, 8, 8]\n[[layer]]\nop = 'conv2d'\nout_channels = 2\nkernel_size = 9\n".to_owned(),
            "layer 'conv2d_1' (conv2d): the kernel covers 9 pixels of height, but the input has 8",
        ),
        (format!("input = [1, 8, 8]\n{linear}9\n"), "my.toml: its output is 9, but there are 10 classes"),
    ] {
        place.write("my.toml", text.as_bytes());
        place.run(&["train", "--data", "data", "--net", "my.toml", "--out", "run"]).fails_with(1, expected);
        assert!(!place.path("run").exists());
    }
}

#[test]
fn folders_that_cannot_take_a_run() {
    let place = Place::with_data();
    place.train(&["--out", "data"]).fails_with(1, "expected a new or empty folder, this one holds files");
    assert_eq!(place.list("data").len(), 4);
    place.train(&["--out", IMAGES]).fails_with(1, "expected a new folder, found a file of that name");
    place.train(&["--out", &format!("{IMAGES}/run")]).fails_with(1, "creating data/train-images-idx3-ubyte/run");
    if cfg!(target_os = "linux") {
        place.train(&["--out", "/proc/convnet-run"]).fails_with(1, "creating /proc/convnet-run");
    }
}

/// A place with a run of one epoch and a few steps.
fn trained() -> Place {
    let place = Place::with_data();
    place.train(&["--epochs", "3", "--max-steps", "10", "--out", "run", "--json"]).json();
    place
}

#[test]
fn checkpoints_that_cannot_be_used() {
    let place = trained();
    let spoil = |name: &str| {
        let mut bytes = place.read(name);
        let middle = bytes.len() - 50;
        bytes[middle] ^= 1;
        place.write(name, &bytes);
    };
    let weights = ["--weights", "run/best.safetensors", "--data", "data"];
    let eval = |flags: &[&str]| place.run(&[&["eval"], &weights[..], flags].concat());
    eval(&["--model", "cnn", "--input", "8x8"]).fails_with(1, "best.safetensors: the weights do not fit the net 'cnn'");
    spoil("run/best.safetensors");
    place.run(&["eval", "--run", "run"]).fails_with(1, "best.safetensors: damaged");
    place.write("run/best.safetensors", b"PK\x03\x04 a foreign file");
    place.run(&["predict", "--run", "run", "run/sample.png"]).fails_with(1, "best.safetensors: ");
    eval(&[]).fails_with(1, "best.safetensors: ");
    place.run(&["eval", "--run", "none"]).fails_with(1, "none: expected the folder of a run, found nothing");
    place.run(&["eval", "--run", "data"]).fails_with(1, "data: not a run folder: it has no config.toml");
    place.run(&["train", "--resume", "data"]).fails_with(1, "data: not a run folder");
    // The last checkpoint gives way to the one before it, and says so; with both damaged there is nothing left.
    spoil("run/last.safetensors");
    let resumed = place.run(&["train", "--resume", "run", "--max-steps", "8", "--json"]);
    assert!(resumed.stderr.starts_with("warning: run/last.safetensors: damaged"), "{}", resumed.stderr);
    resumed.json();
    spoil("run/last.safetensors");
    spoil("run/last.previous.safetensors");
    place.run(&["train", "--resume", "run"]).fails_with(1, "run/last.safetensors: damaged");
}

#[test]
fn pictures_that_do_not_fit_the_net() {
    let place = trained();
    let predict = |flags: &[&str]| place.run(&[&["predict", "--run", "run"], flags].concat());
    predict(&["run/config.toml"]).fails_with(1, "run/config.toml: not a PNG, JPEG, WebP, GIF, TIFF or BMP file");
    predict(&["none.png"]).fails_with(1, "opening none.png: ");
    predict(&["--npy", "run/sample.png"]).fails_with(1, "run/sample.png: ");
    predict(&["none.png", "--json"]).fails_with(1, "opening none.png: ");
    // Beside others, it is named and they are answered.
    let run = predict(&["run/sample.png", "none.png"]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 1), "{}", run.stderr);
    assert!(run.stderr.starts_with("warning: opening none.png: "), "{}", run.stderr);
    assert!(run.stderr.contains("error: 1 of 2 pictures could not be used"), "{}", run.stderr);
    // Any size is resized.
    assert!(predict(&["run/curves.png"]).succeeds().starts_with("run/curves.png: "));
    // A BMP of 8×8 in colour.
    let mut bitmap =
        vec![b'B', b'M', 246, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 24, 0];
    bitmap.resize(54, 0);
    bitmap.extend([9, 99, 199].repeat(64));
    place.write("colour.bmp", &bitmap);
    // A grey net takes its luma.
    assert!(predict(&["colour.bmp"]).succeeds().starts_with("colour.bmp: "));
    // Data of another size.
    place.write("data/t10k-images-idx3-ubyte", &images(20, 9));
    place.write("data/train-images-idx3-ubyte", &images(50, 9));
    assert_eq!(place.run(&["eval", "--run", "run", "--json"]).json()["images"], 20);
    place.run(&["train", "--resume", "run"]).fails_with(1, "for net 'cnn': expected shape [1, 8, 8], got [1, 9, 9]");
}

/// A limit on the size of files is met as a full disk is: writing fails half-way.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_leaves_the_one_before() {
    let place = trained();
    // What test pictures came to is forgotten as soon as a run goes on.
    let listed = || place.list("run").into_iter().filter(|name| name != "test.json").collect::<Vec<_>>();
    let (last, before) = (place.read("run/last.safetensors"), listed());
    let script =
        format!("trap '' XFSZ; ulimit -f 4; exec {} train --resume run --max-steps 12", env!("CARGO_BIN_EXE_convnet"));
    let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(place.path(".")).output().unwrap();
    let run = common::Run::from(output);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("error: writing run/last.safetensors: "), "{}", run.stderr);
    assert_eq!((place.read("run/last.safetensors"), listed()), (last, before));
    place.run(&["train", "--resume", "run", "--json"]).json();
}
