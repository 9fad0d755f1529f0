//! `convnet train`, `eval`, `predict` and `bench` when all goes well, or is interrupted.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Place, SMALL};
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_whole_path() {
    let place = Place::with_data();
    let report = place.train(&["--epochs", "2", "--out", "runs/a", "--json"]).json();
    assert_eq!(keys(&report), ["epochs", "run", "test", "weights_sha256"]);
    let epoch = &report["epochs"][1];
    let expected = [
        "data_wait",
        "epoch",
        "grad_norm",
        "images_per_second",
        "lr",
        "seconds",
        "train_accuracy",
        "train_eval_accuracy",
        "train_eval_loss",
        "train_loss",
        "val_accuracy",
        "val_loss",
    ];
    assert_eq!((&report["run"], &epoch["epoch"], keys(epoch)), (&json!("runs/a"), &json!(2), expected.to_vec()));
    let files = [
        ".lock",
        "best.safetensors",
        "config.toml",
        "curves.png",
        "last.previous.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "predictions.png",
        "report.html",
        "sample.png",
        "summary.csv",
        "test.json",
    ];
    assert_eq!(place.list("runs/a"), files);

    let by_run = place.run(&["eval", "--run", "runs/a", "--json"]).json();
    let expected = [
        "calibration",
        "classes",
        "confused",
        "confusion",
        "data",
        "images",
        "loss",
        "macro_mean",
        "preprocessing",
        "seconds",
        "split",
        "top1",
        "top1_interval",
        "top5",
        "top5_interval",
        "unusable",
        "weighted_mean",
    ];
    assert_eq!(keys(&by_run), expected);
    let best = report["epochs"].as_array().unwrap().iter().map(|epoch| epoch["val_accuracy"].as_f64().unwrap());
    assert_eq!((&by_run["images"], by_run["top1"].as_f64()), (&json!(20), best.reduce(f64::max)));
    let net = ["--model", "cnn", "--input", "8x8", "--cdims", "2", "--hdims", "8"];
    let weights = ["--weights", "runs/a/best.safetensors", "--data", "data", "--json"];
    let by_weights = place.run(&[&["eval"], &net[..], &weights[..]].concat()).json();
    assert_eq!(by_weights["loss"], by_run["loss"]);

    let seen = place.run(&["predict", "--run", "runs/a", "runs/a/sample.png", "--logits", "--json"]).json();
    let picture = &seen["predictions"][0];
    assert_eq!(keys(picture), ["logits", "path", "top"]);
    let guesses = picture["top"].as_array().unwrap();
    assert_eq!((guesses.len(), keys(&guesses[0])), (5, vec!["class", "label", "probability"]));
    assert_eq!(picture["logits"].as_array().unwrap().len(), 10);
    // Without --model: the file says what its net is.
    let again = place.run(&["predict", "--weights", "runs/a/best.safetensors", "runs/a/sample.png", "--json"]).json();
    assert_eq!(again["predictions"][0]["top"], picture["top"]);
    let line = place.run(&["predict", "--run", "runs/a", "runs/a/sample.png", "runs/a/sample.png"]).succeeds();
    assert!(line.starts_with(&format!("runs/a/sample.png: {} (", guesses[0]["label"].as_str().unwrap())), "{line}");
    assert_eq!(line.lines().count(), 2);
}

#[test]
fn arrays_are_taken_as_they_are() {
    let place = Place::with_data();
    place.train(&["--epochs", "1", "--out", "run", "--json"]).json();
    // The sample's pixels over 255: what the picture itself is turned into.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 8, 8), }";
    let mut array = [&b"\x93NUMPY\x01\x00"[..], &118_u16.to_le_bytes(), format!("{header:<117}\n").as_bytes()].concat();
    let test = place.read("data/t10k-images-idx3-ubyte");
    array.extend(test[16..16 + 2 * 64].iter().flat_map(|&byte| (f32::from(byte) / 255.0).to_le_bytes()));
    place.write("two.npy", &array);
    let seen = place.run(&["predict", "--run", "run", "run/sample.png", "--npy", "two.npy", "--json"]).json();
    let seen = seen["predictions"].as_array().unwrap();
    assert_eq!((seen.len(), &seen[1]["path"], &seen[2]["path"]), (3, &json!("two.npy[0]"), &json!("two.npy[1]")));
    assert_eq!(seen[0]["top"], seen[1]["top"]);
}

#[test]
fn people_are_told_what_to_do_next_and_it_works() {
    let place = Place::with_data();
    let run = place.train(&["--epochs", "2", "--out", "my runs/first"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("epoch 2/2  train loss ") && run.stderr.contains(" images/s\n"), "{}", run.stderr);
    let commands: Vec<&str> =
        run.stdout.lines().filter_map(|line| line.split_once(":  ")).map(|(_, c)| c.trim()).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|text| text.contains(" --run ")).collect();
    assert_eq!(commands.len(), 2, "{}", run.stdout);
    for line in commands {
        let status = Command::new("sh").args(["-c", line]).current_dir(place.path(".")).output().unwrap().status;
        assert!(status.success(), "{line}");
    }
    let quiet = place.train(&["--epochs", "1", "--out", "quiet", "-q"]).succeeds();
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
}

#[test]
fn threads_do_not_change_the_weights() {
    let place = Place::with_data();
    let sha = |threads: &str| {
        let report = place.train(&["--max-steps", "9", "--threads", threads, "--out", threads, "--json"]).json();
        report["weights_sha256"].as_str().unwrap().to_owned()
    };
    let one = sha("1");
    assert_eq!((one.len(), sha("2"), sha("0")), (64, one.clone(), one.clone()));
    let other = place.train(&["--max-steps", "9", "--seed", "1", "--out", "seed", "--json"]).json();
    assert_ne!(other["weights_sha256"], one);
}

#[test]
fn stopped_and_resumed_is_unbroken() {
    let place = Place::with_data();
    let unbroken = place.train(&["--epochs", "3", "--out", "unbroken", "--json"]).json();
    place.train(&["--epochs", "3", "--max-steps", "10", "--out", "stopped", "--json"]).json();
    let resumed = place.run(&["train", "--resume", "stopped", "--threads", "2", "--json"]).json();
    assert_eq!(resumed["weights_sha256"], unbroken["weights_sha256"]);
    assert_eq!(resumed["epochs"][2]["train_loss"], unbroken["epochs"][2]["train_loss"]);
    assert_eq!(resumed["epochs"].as_array().unwrap().len(), 3);
    let table = |run: &str| {
        let text = String::from_utf8(place.read(&format!("{run}/summary.csv"))).unwrap();
        // Without the times.
        text.lines().map(|line| line.split(',').take(7).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!((table("stopped"), table("stopped").len()), (table("unbroken"), 4));
    // And further than it was to go at first.
    let longer = place.run(&["train", "--resume", "stopped", "--epochs", "4", "--json"]).json();
    assert_eq!(longer["epochs"].as_array().unwrap().len(), 4);
}

/// As `nohup` starts it: who leaves the terminal does not end the training.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_ends_nothing() {
    let place = Place::with_data();
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" HUP; exec "$0" "$@""#, env!("CARGO_BIN_EXE_convnet"), "train", "--quiet"]);
    command.args(SMALL).args(["--epochs", "40", "--out", "run"]).current_dir(place.path("."));
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    while !place.path("run/last.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended before");
        thread::sleep(Duration::from_millis(2));
    }
    common::send("-HUP", &child);
    assert!(common::ends(&mut child).success());
}

#[cfg(unix)]
#[test]
fn signals_stop_with_a_checkpoint() {
    let place = Place::with_data();
    let unbroken = place.train(&["--epochs", "40", "--out", "unbroken", "--json"]).json();
    for signal in ["-INT", "-TERM"] {
        let arguments = [&["train"], &SMALL[..], &["--epochs", "40", "--out", signal[1..].into(), "--json"]].concat();
        let child = place.command(&arguments).spawn().unwrap();
        while !place.path(&signal[1..]).join("last.safetensors").exists() {
            thread::sleep(Duration::from_millis(2));
        }
        common::send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["epochs"].as_array().unwrap().len() < 40, "it was to be stopped before its end");
        let resumed = place.run(&["train", "--resume", &signal[1..], "--json"]).json();
        assert_eq!(resumed["weights_sha256"], unbroken["weights_sha256"]);
    }
}

#[test]
fn settings_come_in_layers() {
    let place = Place::with_data();
    place.write("my.toml", b"epochs = 5\nlr = 0.5\nseed = 7\nmax_steps = 1\n");
    let arguments = [&["train"], &SMALL[..], &["--config", "my.toml", "--epochs", "3", "--out", "run", "-q"]].concat();
    let mut command = place.command(&arguments);
    let output = command.env("CONVNET_LR", "0.25").env("CONVNET_EPOCHS", "4").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    for line in ["epochs = 3\n", "lr = 0.25\n", "seed = 7\n", "batch_size = 8\n", "name = \"adam\"\n"] {
        assert!(config.contains(line), "no {line} in {config}");
    }
    // And a run's configuration is one for the next.
    place.run(&["train", "--config", "run/config.toml", "--out", "again", "-q"]).succeeds();
    assert_eq!(fs::read_to_string(place.path("again/config.toml")).unwrap(), config);
}

#[test]
fn runs_without_a_name_are_numbered() {
    let place = Place::with_data();
    let run = |flags: &[&str]| place.train(&[&["--max-steps", "1", "--json"], flags].concat()).json()["run"].clone();
    assert_eq!([run(&[]), run(&["--opt", "sgd", "--nesterov"])], [json!("runs/cnn-1"), json!("runs/cnn-2")]);
}

#[test]
fn bench_has_the_promised_fields() {
    let place = Place::new();
    for mode in ["train", "infer"] {
        let small = ["--input", "8x8", "--cdims", "2", "--hdims", "8", "-b", "4", "--repeats", "2", "--threads", "1"];
        let arguments = [&["bench", "cnn", "--mode", mode, "--profile"], &small[..]].concat();
        let report = place.run(&[&arguments[..], &["--json"]].concat()).json();
        for (key, expected) in [
            ("model", json!("cnn")),
            ("mode", json!(mode)),
            ("batch_size", json!(4)),
            ("threads", json!(1)),
            ("precision", json!("f32")),
        ] {
            assert_eq!(report[key], expected);
        }
        let positive = |key: &str| report[key].as_f64().is_some_and(|value| value > 0.0);
        assert!(positive("median_ms") && positive("min_ms") && positive("images_per_second"), "{report}");
        assert_eq!(positive("peak_rss_bytes"), cfg!(target_os = "linux"));
        let table = place.run(&arguments).succeeds();
        assert!(table.contains("conv1") && table.contains("GFLOP/s"), "{table}");
    }
}

#[test]
fn emulated_bf16_is_said_to_be_slow() {
    let place = Place::new();
    let small = ["bench", "cnn", "--input", "8x8", "--cdims", "2", "--hdims", "8", "-b", "2", "--repeats", "1"];
    for (precision, warned) in [("bf16", true), ("f32", false)] {
        let mut command = place.command(&[&small[..], &["--precision", precision]].concat());
        let run: common::Run = command.env("CONVNET_ISA", "portable").output().unwrap().into();
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert_eq!(run.stderr.contains("no instructions for bf16"), warned, "{}", run.stderr);
        assert!(run.stdout.contains(&format!("{precision}, portable")), "{}", run.stdout);
    }
}

#[test]
fn bench_takes_turns() {
    let place = Place::new();
    let small = ["--input", "8x8", "--cdims", "2", "--hdims", "8", "-b", "4", "--threads", "1", "--turns"];
    for mode in [&["--mode", "train", "--opt", "sgd"][..], &["--mode", "infer", "--precision", "bf16"]] {
        let mut command = place.command(&[&["bench", "cnn"], mode, &small[..]].concat());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answer = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
        let ready = answer();
        let mut expected = vec!["batch_size", "isa", "mode", "model", "precision", "threads", "version"];
        if mode[1] == "train" {
            // The least time is known in f32 alone.
            expected.insert(2, "least_ms");
        }
        assert_eq!(keys(&ready), expected);
        assert_eq!((&ready["mode"], &ready["batch_size"]), (&json!(mode[1]), &json!(4)));
        assert_eq!(ready["precision"], json!(if mode[1] == "infer" { "bf16" } else { "f32" }));
        // An answer comes before the next line is written: a turn of no time is one run.
        let runs = ["0", "0.05"].map(|seconds| {
            writeln!(stdin, "{seconds}").unwrap();
            let turn = answer();
            let ms = turn["ms"].as_array().unwrap();
            assert!(ms.iter().all(|ms| ms.as_f64().is_some_and(|ms| ms > 0.0)), "{turn}");
            ms.len()
        });
        assert!(runs[0] == 1 && runs[1] > 1, "{runs:?}");
        drop(stdin);
        assert!(lines.next().is_none() && child.wait().unwrap().success());
    }
}

#[test]
fn bench_refuses_turns_without_a_length() {
    let place = Place::new();
    for line in ["soon", "-1", "NaN", "1e9", ""] {
        let small = ["--input", "8x8", "--cdims", "2", "--hdims", "8", "-b", "1", "--threads", "1"];
        let mut command = place.command(&[&["bench", "--turns"], &small[..]].concat());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
        let run: common::Run = child.wait_with_output().unwrap().into();
        assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 1));
        assert!(
            run.stderr.contains(&format!("--turns: expected seconds from 0 to 3600, got '{line}'")),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_schedule_that_is_stretched_is_told() {
    let place = Place::with_data();
    for (schedule, told) in [("cosine", true), ("constant", false)] {
        place.train(&["--epochs", "1", "--schedule", schedule, "--out", schedule, "--json"]).json();
        let run = place.run(&["train", "--resume", schedule, "--epochs", "2", "--json"]);
        let text = "warning: the learning-rate schedule now spans 2 epochs instead of 1: the learning rate";
        assert_eq!((run.code, run.stderr.contains(text)), (Some(0), told), "{}", run.stderr);
    }
}

/// A picture of 8×8 in one colour.
fn bitmap(side: u8, colour: [u8; 3]) -> Vec<u8> {
    let mut bitmap =
        vec![b'B', b'M', 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, side, 0, 0, 0, side, 0, 0, 0, 1, 0, 24, 0];
    bitmap.resize(54, 0);
    bitmap.extend(colour.repeat(usize::from(side).pow(2)));
    bitmap
}

/// Folders of 10 pictures for each class, which differ in colour.
fn photos(place: &Place, folder: &str, classes: &[(&str, [u8; 3])], side: impl Fn(u8) -> u8) {
    for (class, colour) in classes {
        fs::create_dir_all(place.path(&format!("{folder}/{class}"))).unwrap();
        for number in 0..10 {
            let colour = colour.map(|value| value.saturating_add(number));
            place.write(&format!("{folder}/{class}/{number}.bmp"), &bitmap(side(number), colour));
        }
    }
}

const COLOURS: [(&str, [u8; 3]); 2] = [("blue", [200, 20, 20]), ("green", [20, 200, 20])];

#[test]
fn folders_of_classes_alone_are_split() {
    let place = Place::new();
    photos(&place, "photos", &COLOURS, |_| 8);
    let small = ["--cdims", "2", "--hdims", "4", "--batch-size", "4", "--epochs", "2", "--threads", "1"];
    let train = |flags: &[&str]| place.run(&[&["train", "--data", "photos"], &small[..], flags].concat());
    let run = train(&["--out", "run"]);
    let told = "Held out for validation: 4 pictures of the training part, the same share of each class";
    assert!(run.stderr.contains(told) && run.stderr.contains("16 pictures, 4 for validation"), "{}", run.stderr);
    assert!(fs::read_to_string(place.path("run/config.toml")).unwrap().contains("val_split = 0.2\n"));
    // Evaluated on what was held out, not on what it was trained on.
    let report = place.run(&["eval", "--run", "run", "--json"]).json();
    assert_eq!((&report["images"], &report["split"]), (&json!(4), &json!("val")));
    let best = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let best = best.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["val_accuracy"].as_f64().unwrap());
    assert_eq!(report["top1"].as_f64(), best.reduce(f64::max));
    assert_eq!(place.run(&["eval", "--run", "run", "--data", "photos", "--json"]).json()["images"], 4);
    assert_eq!(place.run(&["eval", "--run", "run", "--split", "train", "--json"]).json()["images"], 16);
    // Resumed with the same split.
    let more = place.run(&["train", "--resume", "run", "--epochs", "3", "--json"]).json();
    assert_eq!(more["epochs"].as_array().unwrap().len(), 3);
    let run = train(&["--val-split", "0", "--out", "all"]);
    assert!(run.stderr.contains("20 pictures, none held out"), "{}", run.stderr);
    assert!(run.stdout.contains("of the training pictures recognised in epoch 2"), "{}", run.stdout);
    train(&["--val-split", "1", "--out", "none"]).fails_with(2, "val_split: expected a number from 0 to below 1");
}

#[test]
fn pictures_of_several_sizes_are_brought_to_the_networks() {
    let place = Place::new();
    photos(&place, "photos", &COLOURS, |number| 20 + 4 * number);
    let small = ["--max-steps", "1", "--batch-size", "4", "--threads", "1", "--out"];
    let train = |flags: &[&str], out: &str| {
        let run = place.run(&[&["train", "--data", "photos"], flags, &small[..], &[out]].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run
    };
    assert!(train(&["--model", "lenet5"], "a").stderr.contains("they are brought to 1x28x28"));
    assert!(fs::read_to_string(place.path("a/config.toml")).unwrap().contains("input = [1, 28, 28]"));
    let own = train(&[], "b");
    assert!(
        own.stderr.contains("they are brought to 3x128x128") && own.stderr.contains("Training resnet18"),
        "{}",
        own.stderr
    );
    // Settings of the cnn ask for it.
    assert!(train(&["--cdims", "2", "--hdims", "4"], "c").stderr.contains("they are brought to 3x28x28"));
    // Those that fit as they are need no word.
    photos(&place, "fitting", &COLOURS, |_| 32);
    let flags = [&["train", "--data", "fitting", "--model", "resnet20"], &small[..], &["d"]].concat();
    let run = place.run(&flags);
    assert!(run.code == Some(0) && !run.stderr.contains("brought to"), "{}", run.stderr);
}

#[test]
fn weights_of_one_run_begin_another() {
    let place = Place::new();
    photos(&place, "first", &COLOURS, |_| 8);
    photos(&place, "second", &[COLOURS[0], COLOURS[1], ("red", [20, 20, 200])], |_| 8);
    let small = ["--batch-size", "4", "--epochs", "1", "--threads", "1", "-q"];
    let net = ["--cdims", "2", "--hdims", "4"];
    let train = |flags: &[&str]| place.run(&[&["train"], &small[..], flags].concat());
    train(&[&["--data", "first", "--out", "first-run"], &net[..]].concat()).succeeds();
    let weights = "first-run/best.safetensors";
    let run = place.run(&["train", "--data", "second", "--weights", weights, "--out", "second-run", "--epochs", "1"]);
    assert!(run.stderr.contains("Initialised for the classes of the data: head.bias, head.weight"), "{}", run.stderr);
    let labels = place.run(&["predict", "--run", "second-run", "second/red/0.bmp", "--json"]).json();
    assert_eq!(labels["predictions"][0]["top"].as_array().unwrap().len(), 3);
    // The weights may be gone when the run goes on.
    fs::remove_dir_all(place.path("first-run")).unwrap();
    place.run(&["train", "--resume", "second-run", "--epochs", "2", "--json"]).json();
}

#[test]
fn a_search_for_a_rate_leaves_a_table_and_a_drawing() {
    let place = Place::with_data();
    let table = place.train(&["--find-lr", "--opt", "sgd"]).succeeds();
    assert!(table.contains("smoothed") && table.contains("1.0e-7") && table.contains("find-lr.png"), "{table}");
    assert!(place.read("find-lr.png").starts_with(b"\x89PNG") && !place.path("runs").exists());
    let found = place.train(&["--find-lr", "--out", "search", "--json"]).json();
    assert_eq!(keys(&found), ["suggestion", "tried"]);
    assert_eq!(place.list("search"), ["find-lr.png"]);
    place.train(&["--find-lr", "--resume", "search"]).fails_with(2, "cannot be used with");
}

#[test]
fn recipes_lie_below_all_other_settings() {
    let place = Place::with_data();
    place.write("mine.toml", b"weight_decay = 0.25\nlabel_smoothing = 0.5\n");
    let flags = ["--config", "mine.toml", "--lr", "0.125", "--max-steps", "1", "--out", "run", "-q"];
    place.train(&[&["--recipe", "cifar"], &flags[..]].concat()).succeeds();
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    for line in ["name = \"sgd\"", "nesterov = true", "weight_decay = 0.25", "label_smoothing = 0.5", "lr = 0.125"] {
        assert!(config.contains(line), "no {line} in {config}");
    }
    let recipe = place.run(&["recipes", "cifar"]).succeeds();
    assert!(recipe.contains("Source: Zagoruyko and Komodakis 2016"), "{recipe}");
    // What is printed is a recipe, too.
    place.write("own.toml", recipe.as_bytes());
    place.train(&["--recipe", "own.toml", "--max-steps", "1", "--out", "own", "-q"]).succeeds();
    let list = place.run(&["recipes"]).succeeds();
    assert!(list.lines().count() == 8 && list.contains("fine-tune"), "{list}");
    let listed = place.run(&["recipes", "--json"]).json();
    assert_eq!(listed["recipes"].as_array().unwrap().len(), 6);
    place.run(&["recipes", "cifr"]).fails_with(2, "unknown recipe 'cifr': did you mean 'cifar'?");
    place.train(&["--recipe", "cifr"]).fails_with(2, "unknown recipe 'cifr': did you mean 'cifar'?");
}

#[test]
fn settings_can_be_given_by_their_keys() {
    let place = Place::with_data();
    place
        .train(&["--max-steps", "1", "--set", "optimizer.lr=0.25", "--set", "seed=9", "--out", "run", "-q"])
        .succeeds();
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("lr = 0.25\n") && config.contains("seed = 9\n"), "{config}");
    let typo = place.train(&["--set", "optimizer.rl=0.25", "--out", "typo"]);
    typo.fails_with(2, "there is no setting 'optimizer.rl': did you mean 'optimizer.lr'?");
    place.train(&["--set", "lr", "--out", "typo"]).fails_with(2, "expected KEY=VALUE");
    place.run(&["train", "--resume", "run", "--seed", "3"]).fails_with(2, "cannot be used with");
}

#[test]
fn one_class_is_nothing_to_tell_apart() {
    let place = Place::new();
    for part in ["train", "val"] {
        fs::create_dir_all(place.path(&format!("photos/{part}/cat"))).unwrap();
        place.write(&format!("photos/{part}/cat/0.bmp"), &bitmap(8, [9, 99, 199]));
    }
    let run = place.run(&["train", "--data", "photos", "--cdims", "2", "--out", "run"]);
    run.fails_with(1, "expected at least two classes to tell apart, got one ('cat')");
    assert!(!place.path("run").exists());
}

/// Flags alone are at fault where they make no sense whatever the file says.
#[test]
fn epochs_to_average_are_epochs_of_the_run() {
    let place = Place::with_data();
    let run = |flags: &[&str]| place.train(&[&["--max-steps", "1", "--out", "run", "-q"], flags].concat());
    let message = "swa_epochs: expected at most 2, the number of epochs, got 5";
    run(&["--swa-epochs", "5", "--epochs", "2"]).fails_with(2, message);
    place.write("long.toml", b"epochs = 20\n");
    run(&["--swa-epochs", "15", "--config", "long.toml"]).succeeds();
    place.write("short.toml", b"epochs = 2\n");
    let message = "swa_epochs: expected at most 2, the number of epochs, got 15";
    run(&["--swa-epochs", "15", "--config", "short.toml"]).fails_with(1, message);
}

#[test]
fn random_features_that_stay_are_told() {
    let place = Place::with_data();
    let train = |flags: &[&str]| {
        let run = place.train(&[&["--max-steps", "1", "--freeze", "backbone"], flags].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stderr.contains("warning: --freeze backbone without --weights: ")
    };
    assert!(train(&["--out", "a"]));
    place.train(&["--epochs", "1", "--out", "b", "--json"]).json();
    let run = place.run(&[
        "train",
        "--data",
        "data",
        "--weights",
        "b/best.safetensors",
        "--freeze",
        "backbone",
        "--max-steps",
        "1",
    ]);
    assert!(run.code == Some(0) && !run.stderr.contains("without --weights"), "{}", run.stderr);
}

#[test]
fn variables_that_nothing_reads_are_told() {
    let place = Place::with_data();
    let arguments = [&["train"], &SMALL[..], &["--max-steps", "1", "--out", "run", "--json"]].concat();
    let run: common::Run = place.command(&arguments).env("CONVNET_EPOCS", "3").output().unwrap().into();
    let told = "warning: CONVNET_EPOCS is no variable of convnet and is ignored: did you mean 'CONVNET_EPOCHS'?\n";
    assert!(run.code == Some(0) && run.stderr.starts_with(told), "{}", run.stderr);
}

#[test]
fn a_torn_line_of_metrics_keeps_nobody_from_going_on() {
    let place = Place::with_data();
    let unbroken = place.train(&["--epochs", "3", "--out", "unbroken", "--json"]).json();
    place.train(&["--epochs", "3", "--max-steps", "17", "--out", "run", "--json"]).json();
    let whole = place.read("run/metrics.jsonl");
    place.write("run/metrics.jsonl", &[&whole[..], b"\0\0\0\0\n"].concat());
    let run = place.run(&["train", "--resume", "run", "--json"]);
    let told = "warning: run/metrics.jsonl: line 3 is torn, as a power failure leaves it, and is dropped";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    assert_eq!(run.json()["weights_sha256"], unbroken["weights_sha256"]);
    assert_eq!(String::from_utf8(place.read("run/metrics.jsonl")).unwrap().lines().count(), 3);
    // Nothing is left to be done, and what was done is counted.
    let run = place.run(&["train", "--resume", "run", "--epochs", "2"]);
    assert!(run.code == Some(0) && run.stderr.contains("Already done: 3 epochs; more with"), "{}", run.stderr);
    assert!(place.run(&["compare", "run"]).succeeds().contains("3 of 3"));
}

#[test]
fn a_run_without_weights_says_what_to_do() {
    let place = Place::with_data();
    place.train(&["--max-steps", "1", "--out", "run", "--json"]).json();
    fs::remove_file(place.path("run/last.safetensors")).unwrap();
    let message = "run: this run has no weights yet, for its first epoch has not ended: wait for it, or go on with the run with \
                   convnet train --resume run";
    place.run(&["eval", "--run", "run"]).fails_with(1, message);
    place.run(&["predict", "--run", "run", "run/sample.png"]).fails_with(1, message);
}

#[test]
fn weights_of_another_network_are_called_by_name() {
    let place = Place::with_data();
    let net = convnet::zoo::by_name("resnet20", &Default::default()).unwrap();
    let foreign = convnet::weights::init(&net, 0);
    convnet::weights::safetensors::write(&place.path("r.safetensors"), &foreign, &Default::default()).unwrap();
    let train =
        |weights: &str| place.run(&["train", "--data", "data", "--model", "cnn", "--weights", weights, "--out", "run"]);
    let refused = train("r.safetensors");
    refused.fails_with(1, "r.safetensors: the weights do not fit the net 'cnn'");
    refused.fails_with(1, "; for their own network there is --model resnet20");
    place.train(&["--epochs", "1", "--out", "small", "--json"]).json();
    let refused = train("small/best.safetensors");
    refused.fails_with(1, "which it describes: to use that, name no net (leave out --model, --net and their settings)");
}
