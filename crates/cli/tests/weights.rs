//! `convnet convert`, weights of any form and origin, and what is said when they do not fit.

mod common;

use common::{Place, SMALL};

/// Flags for the net that was trained in [`trained`], which a file of foreign weights does not know.
const NET: [&str; 6] = ["--input", "8x8", "--cdims", "2", "--hdims", "8"];

/// A place with a run of one epoch.
fn trained() -> Place {
    let place = Place::with_data();
    place.train(&["--epochs", "1", "--out", "run", "--json"]).json();
    place
}

#[test]
fn weights_go_to_pytorch_and_back_with_all_that_is_known() {
    let place = trained();
    let line = place.run(&["convert", "run/best.safetensors", "best.pt"]).succeeds();
    assert_eq!(line, "best.pt: 10 tensors, 382 elements\n");
    let json = place.run(&["convert", "best.pt", "again.safetensors", "--json"]).json();
    assert_eq!(
        (&json["path"], &json["tensors"], &json["elements"]),
        (&"again.safetensors".into(), &10.into(), &382.into())
    );
    let predict =
        |flags: &[&str]| place.run(&[&["predict", "--logits", "--json", "run/sample.png"], flags].concat()).succeeds();
    let expected = predict(&["--run", "run"]);
    assert_eq!(predict(&["--weights", "best.pt"]), expected);
    assert_eq!(predict(&["--weights", "again.safetensors"]), expected);
    place.run(&["convert", "again.safetensors", "again.pth"]).succeeds();
    assert_eq!(place.read("again.pth"), place.read("best.pt"), "equal content gives equal bytes");
    // The content of a file counts, not its name.
    std::fs::rename(place.path("best.pt"), place.path("best.th")).unwrap();
    assert_eq!(predict(&["--weights", "best.th"]), expected);
    let run = place.run(&["convert", "run/last.safetensors", "last.pt"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "the optimizer's state is left out\n"));
}

#[test]
fn another_number_of_classes_needs_the_head_to_be_ignored() {
    let place = trained();
    let with = |flags: &[&str]| {
        let arguments = ["predict", "--weights", "run/best.safetensors", "run/sample.png", "--classes", "3"];
        place.run(&[&arguments[..], &NET, flags].concat())
    };
    let expected = "2 of another shape: head.weight (expected [3, 8], got [10, 8]), head.bias (expected [3], got [10])";
    with(&[]).fails_with(1, expected);
    with(&[]).fails_with(1, "for another number of classes there is --ignore-mismatched head");
    let run = with(&["--ignore-mismatched", "head"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let expected =
        "warning: run/best.safetensors: not trained, these have their first values: head.weight, head.bias\n";
    assert_eq!(run.stderr, expected);
    // Without a number of classes the head of the weights says it.
    let arguments = ["predict", "--weights", "run/best.safetensors", "run/sample.png", "--json"];
    let arguments = [&arguments[..], &["--model", "cnn"], &NET].concat();
    assert_eq!(place.run(&arguments).json()["predictions"][0]["top"].as_array().unwrap().len(), 5);
    with(&["--ignore-mismatched", "tail,head"]).fails_with(1, "the net 'cnn' has no layer 'tail': ");
    let arguments = ["convert", "--ignore-mismatched", "head", "run/best.safetensors", "three.pt"];
    place.run(&arguments).fails_with(2, "--ignore-mismatched: name the network, too");
    let arguments = [&arguments[..], &NET, &["--classes", "3"]].concat();
    assert_eq!(place.run(&arguments).code, Some(0));
    let guesses = place.run(&["predict", "--weights", "three.pt", "--json", "run/sample.png"]).json();
    assert_eq!(guesses["predictions"][0]["top"].as_array().unwrap().len(), 3);
    place.run(&["eval", "--run", "run", "--ignore-mismatched", "head"]).fails_with(2, "cannot be used with");
}

#[test]
fn files_that_cannot_be_converted() {
    let place = trained();
    let convert = |from: &str, to: &str| place.run(&["convert", from, to]);
    convert("run/best.safetensors", "best.onnx").fails_with(2, "best.onnx: expected a name that ends in .safetensors");
    convert("none.pt", "a.pt").fails_with(1, "opening none.pt: ");
    convert("run", "a.pt").fails_with(1, "run: expected a regular file");
    convert("run/config.toml", "a.pt").fails_with(1, "run/config.toml: not weights: it is a text");
    convert("run/best.safetensors", "none/a.pt").fails_with(1, "writing none/a.pt: ");
    place.write("evil.pth", b"\x80\x02cos\nsystem\nX\x07\0\0\0echo hi\x85R.");
    convert("evil.pth", "a.pt").fails_with(1, "evil.pth: a Python pickle, but not one of torch.save");
    place.write("evil.pth", b"PK\x03\x04 a foreign file");
    convert("evil.pth", "a.pt").fails_with(1, "evil.pth: truncated: a zip archive must end with its directory");
    let arguments = [&["convert", "run/best.safetensors", "a.pt"], &SMALL[2..6]].concat();
    place.run(&arguments).fails_with(1, "best.safetensors: the weights do not fit the net 'cnn'");
    assert!(!place.path("a.pt").exists());
}

/// Tensors under other names than the run's, in a file of which nothing else is known.
#[test]
fn weights_of_other_programs_are_made_to_fit_and_said_to_be() {
    let place = trained();
    let own = convnet::weights::Checkpoint::load(&place.path("run/best.safetensors")).unwrap().weights;
    let write = |name: &str, tensors: &convnet::StateDict| {
        convnet::weights::safetensors::write(&place.path(name), tensors, &Default::default()).unwrap();
    };
    let predict = |flags: &[&str]| {
        let arguments = ["predict", "--logits", "--json", "run/sample.png", "--model", "cnn"];
        place.run(&[&arguments[..], &NET, flags].concat())
    };
    write("own.safetensors", &own);
    let run = predict(&["--weights", "own.safetensors"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let expected = run.stdout;
    let prefixed =
        |prefix: &'static str| own.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor.clone()));
    write("wrapped.safetensors", &prefixed("model.").collect());
    let run = predict(&["--weights", "wrapped.safetensors"]);
    assert_eq!((run.stdout.as_str(), run.code), (expected.as_str(), Some(0)));
    assert!(run.stderr.contains("wrapped.safetensors: 'model.' was taken off the names\n"), "{}", run.stderr);
    write("two.safetensors", &prefixed("student.").chain(prefixed("teacher.")).collect());
    let two = ["--weights", "two.safetensors"];
    let message =
        "two.safetensors: it holds more than one set of weights, and nothing says which is meant: student, teacher";
    predict(&two).fails_with(1, &format!("{message}; choose with --key KEY"));
    assert_eq!(predict(&[&two[..], &["--key", "teacher"]].concat()).stdout, expected);
    predict(&[&two[..], &["--key", "tutor"]].concat())
        .fails_with(1, "no weights under 'tutor': there are student, teacher");
    let convert = ["convert", "two.safetensors", "teacher.safetensors", "--key", "teacher"];
    assert_eq!(place.run(&convert).stdout, "teacher.safetensors: 10 tensors, 382 elements\n");
    assert_eq!(predict(&["--weights", "teacher.safetensors"]).stdout, expected);
    place.run(&["predict", "--weights", "own.safetensors", "run/sample.png"]).fails_with(1, ": name it with --model");
    let mut spoilt = own.clone();
    spoilt.get_mut("linear1.bias").unwrap().data_mut()[3] = f32::NAN;
    write("spoilt.safetensors", &spoilt);
    let message = "spoilt.safetensors: tensor 'linear1.bias' holds NaN at element 3; 1 of its 8 elements";
    predict(&["--weights", "spoilt.safetensors"]).fails_with(1, message);
    place.run(&["convert", "spoilt.safetensors", "a.pt"]).fails_with(1, message);
    assert!(!place.path("a.pt").exists());
}

/// A run as an ONNX file answers as the run does, to the bit, with its classes and its preprocessing.
#[test]
fn a_run_leaves_as_an_onnx_file_and_comes_back() {
    let place = trained();
    let line = place.run(&["export", "--run", "run", "net.onnx"]).succeeds();
    assert_eq!(line, "net.onnx: cnn, 378 parameters, 10 classes, opset 17\n");
    let predict =
        |flags: &[&str]| place.run(&[&["predict", "--logits", "--json", "run/sample.png"], flags].concat()).succeeds();
    let expected = predict(&["--run", "run"]);
    assert_eq!(predict(&["--weights", "net.onnx"]), expected);
    let json = place.run(&["export", "--run", "run", "--fold", "--batch", "4", "four.onnx", "--json"]).json();
    assert_eq!((&json["path"], &json["opset"]), (&"four.onnx".into(), &17.into()));
    assert_eq!(predict(&["--weights", "four.onnx"]), expected);
    place.run(&["export", "--run", "run", "none/net.onnx"]).fails_with(1, "writing none/net.onnx: ");
    place.run(&["predict", "--model", "cnn", "--weights", "net.onnx", "run/sample.png"]).fails_with(1, "an ONNX model");
    place.run(&["predict", "--net", "net.onnx", "run/sample.png"]).fails_with(2, "--weights net.onnx its weights, too");
    place.run(&["predict", "--model", "cnn", "run/sample.png"]).fails_with(2, "expected --run RUN or --weights FILE");
}

/// The weights alone, under the names of another library, and how they are loaded there.
#[test]
fn weights_leave_under_the_names_of_other_libraries() {
    let place = trained();
    place.write("none.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    let network = ["--model", "mobilenet_v3_small", "--input", "1x32x32", "--classes", "3"];
    let first = ["--ignore-mismatched", "features,classifier", "none.safetensors", "all.safetensors"];
    assert_eq!(place.run(&[&["convert"][..], &network, &first].concat()).code, Some(0));
    let export = |flags: &[&str]| place.run(&[&["export", "--weights", "all.safetensors"], flags].concat());
    let expected = "net.safetensors: mobilenet_v3_small, 244 tensors with the names of timm\n\n\
        import timm\nfrom safetensors.torch import load_file\n\n\
        model = timm.create_model(\"mobilenetv3_small_100\", num_classes=3, in_chans=1, bn_eps=0.001)\n\
        model.load_state_dict(load_file(\"net.safetensors\"))\nmodel.eval()\n";
    assert_eq!(export(&["--names", "timm", "net.safetensors"]).succeeds(), expected);
    export(&["net.safetensors"]).fails_with(1, "torchvision's networks take 3 channels, got 1");
    export(&["--names", "timm", "net.onnx"]).fails_with(2, "--names is for a file that ends in .safetensors");
    export(&["--half", "net.safetensors"]).fails_with(2, "net.safetensors: --half is for an ONNX file");
    place.run(&["export", "--run", "run", "net.safetensors"]).fails_with(1, "torchvision has no network 'cnn'");
}
