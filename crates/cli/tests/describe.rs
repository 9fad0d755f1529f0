//! `convnet summary`, `models` and `completions`, and what every command does with bad input.

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::convnet;
use serde_json::Value;

fn summary_json(arguments: &[&str]) -> Value {
    let text = convnet(&[&["summary", "--json"], arguments].concat()).succeeds();
    serde_json::from_str(&text).expect("--json prints one JSON document")
}

/// A file with this text that is deleted at the end of the test.
struct TextFile(PathBuf);

impl TextFile {
    fn new(name: &str, text: &str) -> TextFile {
        let path = std::env::temp_dir().join(format!("convnet-test-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        TextFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn summary_prints_a_table() {
    let table = convnet(&["summary", "cnn"]).succeeds();
    for expected in ["conv1 ", "32x28x28", "3,211,264", "classifier", "3,363,786", "7,182,080", "14,364,160"] {
        assert!(table.contains(expected), "no {expected} in\n{table}");
    }
    let markdown = convnet(&["summary", "--markdown"]).succeeds();
    assert!(markdown.starts_with("### cnn") && markdown.contains("\n| head "), "{markdown}");
}

#[test]
fn summary_json_has_the_promised_fields() {
    let json = summary_json(&["cnn", "--batch-size", "2"]);
    assert_eq!(json["model"], "cnn");
    assert_eq!(json["input"], serde_json::json!([1, 28, 28]));
    assert_eq!((&json["params"], &json["macs"]), (&3_363_786.into(), &7_182_080.into()));
    let expected = serde_json::json!({
        "name": "conv2", "op": "conv2d", "input": [32, 14, 14], "output": [64, 14, 14], "weights": 18_432, "biases": 64,
        "settings": "3x3 p1 32→64", "inputs": ["drop1"], "macs": 3_612_672, "receptive_field": [8, 8], "effective_stride": [2, 2], "activation_bytes": 2 * 4 * 64 * 14 * 14,
    });
    assert_eq!(json["layers"][5], expected);
}

#[test]
fn the_least_time_is_in_the_plain_table_and_elsewhere_on_request() {
    let table = convnet(&["summary", "cnn", "--threads", "1", "-b", "2"]).succeeds();
    assert!(table.contains("time of 2 pictures: at least ") && table.contains("(1 thread: "), "{table}");
    assert!(!convnet(&["summary", "--markdown"]).succeeds().contains("at least"));
    assert_eq!(summary_json(&["cnn"])["roofline"], Value::Null);
    let json = summary_json(&["cnn", "--threads", "1", "--roofline"]);
    let roofline = &json["roofline"];
    assert_eq!(roofline["threads"], 1);
    for key in ["gflops", "gigabytes_per_second", "inference_ms", "training_ms"] {
        assert!(roofline[key].as_f64().unwrap() > 0.0, "{json}");
    }
    // The machine has been measured already, so the figures are the same.
    assert_eq!(summary_json(&["cnn", "--threads", "1", "--roofline"])["roofline"], *roofline);
}

#[test]
fn auxiliary_outputs_are_described_for_training_alone() {
    let json = summary_json(&["googlenet"]);
    assert_eq!((&json["params"], &json["auxiliary"]), (&6_624_904.into(), &Value::Null));
    let json = summary_json(&["googlenet", "--training"]);
    assert_eq!((&json["params"], &json["auxiliary"]["params"]), (&13_004_888.into(), &6_379_984.into()));
    let share = "auxiliary    6,379,984   49.1 %";
    assert!(convnet(&["summary", "googlenet", "--training"]).succeeds().contains(share));
}

#[test]
fn depth_folds_layers_in_the_table_but_not_in_json() {
    let rows = |depth: &[&str]| {
        let table = convnet(&[&["summary", "resnet18", "--markdown"], depth].concat()).succeeds();
        table.lines().skip(4).take_while(|line| line.starts_with('|')).count()
    };
    assert_eq!([rows(&["--depth", "1"]), rows(&["--depth", "2"]), rows(&["--depth", "all"])], [11, 15, 69]);
    assert_eq!(rows(&[]), 15);
    assert_eq!(summary_json(&["resnet18", "--depth", "1"])["layers"].as_array().unwrap().len(), 69);
}

#[test]
fn drawings_go_to_files_or_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (svg, dot) = (path("net.svg"), path("net.dot"));
    let table = convnet(&["summary", "cnn", "--quiet", "--svg", &svg, "--dot", &dot]).succeeds();
    assert!(table.contains("3,363,786"), "the table is printed too");
    assert_eq!(convnet(&["summary", "cnn", "--svg", "-"]).succeeds(), std::fs::read_to_string(svg).unwrap());
    let text = convnet(&["summary", "cnn", "--dot", "-"]).succeeds();
    assert_eq!(text, std::fs::read_to_string(dot).unwrap());
    assert!(text.starts_with("digraph \"cnn") && text.contains("n6 -> n7;") && text.ends_with("}\n"), "{text}");
    convnet(&["summary", "cnn", "--svg", "-", "--dot", "-"]).fails_with(2, "at most one of them");
    convnet(&["summary", "cnn", "--svg", &path("no/net.svg")]).fails_with(1, "create it first");
    let deep = ["1"; 1500].join(",");
    convnet(&["summary", "--quiet", "--hdims", &deep, "--svg", &path("deep.svg")]).succeeds();
    let deep = ["1"; 2500].join(",");
    let refused = convnet(&["summary", "--hdims", &deep, "--svg", &path("deeper.svg")]);
    refused.fails_with(1, "at a smaller depth");
    assert!(!folder.path().join("deeper.svg").exists());
}

#[test]
fn settings_reach_the_network() {
    let json = summary_json(&[
        "--model",
        "cnn",
        "--cdims",
        "8",
        "--hdims",
        "",
        "--ksize",
        "5",
        "--no-batch-norm",
        "--dropout",
        "0",
        "--input",
        "3x20x30",
        "--classes",
        "4",
    ]);
    assert_eq!(json["params"], 8 * 3 * 25 + 8 + 4 * (8 * 10 * 15) + 4);
    let layers: Vec<&str> =
        json["layers"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(layers, ["conv1", "relu1", "pool1", "flatten", "head"]);
    assert_eq!(summary_json(&["--input", "32x36"])["input"], serde_json::json!([1, 32, 36]));
}

#[test]
fn a_net_comes_from_a_file() {
    let text =
        "name = 'tiny'\ninput = [1, 8, 8]\n[[layer]]\nop = 'flatten'\n[[layer]]\nop = 'linear'\nout_features = 3\n";
    let file = TextFile::new("tiny.toml", text);
    let json = summary_json(&["--net", file.path(), "--input", "2x4x4"]);
    assert_eq!((&json["model"], &json["params"]), (&"tiny".into(), &(32 * 3 + 3).into()));
}

#[test]
fn models_are_listed() {
    assert!(convnet(&["models"]).succeeds().contains("cnn"));
    let json: Value = serde_json::from_str(&convnet(&["models", "--json"]).succeeds()).unwrap();
    assert_eq!((&json["models"][0]["name"], &json["models"][0]["params"]), (&"cnn".into(), &3_363_786.into()));
    let models = json["models"].as_array().unwrap();
    let mobile = models.iter().find(|model| model["name"] == "mobilenet_v2").unwrap();
    assert_eq!((&mobile["family"], &mobile["macs"]), (&"MobileNet v2".into(), &300_774_272.into()));
}

#[test]
fn completions_are_printed() {
    assert!(convnet(&["completions", "bash"]).succeeds().contains("_convnet"));
}

#[test]
fn mistyped_names_get_a_suggestion() {
    convnet(&["summary", "cn"]).fails_with(2, "unknown model 'cn': did you mean 'cnn'?");
    convnet(&["summary", "--batchsize", "3"]).fails_with(2, "a similar argument exists: '--batch-size'");
    convnet(&["predct"]).fails_with(2, "a similar subcommand exists: 'predict'");
}

#[test]
fn impossible_command_lines_exit_with_2() {
    for (arguments, expected) in [
        (&["summary", "--frobnicate"][..], "--frobnicate"),
        (&["summary", "cnn", "--net", "x.toml"], "cannot be used with"),
        (&["summary", "--net", "x.toml", "--classes", "3"], "cannot be used with"),
        (&["summary", "--input", "0x28"], "such as 3x224x224 or 28x28"),
        (&["summary", "--input", "99999999999999999999x1"], "such as 3x224x224 or 28x28"),
        (&["summary", "--cdims", "32;64"], "between commas"),
        (&["summary", "--batch-size", "0"], "not in 1.."),
        (&["summary", "--json", "--markdown"], "cannot be used with"),
        (&["summary", "--depth", "0"], "at least 1, or all"),
        (&["summary", "--depth", "deep"], "at least 1, or all"),
    ] {
        convnet(arguments).fails_with(2, expected);
    }
}

#[test]
fn settings_that_do_not_fit_exit_with_2() {
    for (arguments, expected) in [
        (&["--input", "2x9"][..], "cnn: expected a picture of at least 1x4x4, got 1x2x9"),
        (&["--input", "5"], "expected a size such as"),
        (&["--input", "1x1000000x1000000"], "expected at most 1073741824 elements"),
        (&["--ksize", "0"], "--ksize <N>': expected at least 1"),
        (&["--ksize", "9223372036854775807"], "ksize: expected at most the picture's side, 28x28"),
        (&["--classes", "0"], "--classes <N>': expected at least 1"),
        (&["--hdims", "4611686018427387904"], "layer 'linear1' (linear): expected at most"),
        (&["--dropout", "1"], "layer 'drop1' (dropout2d): expected a probability"),
        (&["resnet18", "--ksize", "3"], "for networks of the family CNN"),
    ] {
        convnet(&[&["summary"], arguments].concat()).fails_with(2, expected);
    }
    convnet(&["summary", "--net", "no/such.toml"]).fails_with(1, "opening no/such.toml: ");
}

#[test]
fn net_files_that_do_not_fit_name_file_line_and_layer() {
    let file = TextFile::new(
        "kernel.toml",
        "input = [1, 4, 4]\n\n[[layer]]\nop = 'conv2d'\nout_channels = 1\nkernel_size = 5\n",
    );
    let problem = "line 3: layer 'conv2d_1' (conv2d): the kernel covers 5 pixels of height, but the input has 4 plus 0";
    convnet(&["summary", "--net", file.path()]).fails_with(1, &format!("{}: {problem}", file.path()));
    let file =
        TextFile::new("flat.toml", "input = [1, 4, 4]\n[[layer]]\nop = 'linear'\nname = 'head'\nout_features = 2\n");
    let problem = "layer 'head' (linear): expected a vector, got maps of 1x4x4: put a flatten layer before it";
    convnet(&["summary", "--net", file.path()]).fails_with(1, problem);
    let file = TextFile::new("op.toml", "input = [1, 4, 4]\n[[layer]]\nop = 'con2d'\n");
    convnet(&["summary", "--net", file.path()]).fails_with(1, "did you mean 'conv2d'?");
}

/// A run whose output is far larger than a pipe's buffer, so that it is still writing until somebody reads.
fn endless_summary() -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convnet"));
    command.args(["summary", "--hdims", &["1"; 3000].join(",")]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Exit code and stderr.
fn end_of(mut child: Child) -> (Option<i32>, String) {
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code(), stderr)
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = endless_summary();
    drop(child.stdout.take());
    assert_eq!(end_of(child), (Some(0), String::new()));
}

#[cfg(unix)]
#[test]
fn ctrl_c_exits_with_130() {
    let mut child = endless_summary();
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut [0]).expect("the run has begun to print");
    common::send("-INT", &child);
    assert_eq!(common::ends(&mut child).code(), Some(130));
}
