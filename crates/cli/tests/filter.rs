//! `convnet filter`: named and own kernels, to files and sheets, and what it does with bad input.

mod common;

use common::{Place, Run};
use convnet::Tensor;
use convnet::data::bitmap::Bitmap;
use convnet::weights::safetensors;
use serde_json::json;

fn filter(place: &Place, arguments: &[&str]) -> Run {
    place.run(&[&["filter"], arguments].concat())
}

#[test]
fn the_demo_makes_a_sheet_of_all_filters() {
    let place = Place::new();
    assert_eq!(filter(&place, &["--demo"]).succeeds(), "filters.png: contact sheet\n");
    assert_eq!(place.list("."), ["filters.png"]);
    let [channels, height, width] = Bitmap::read(&place.path("filters.png")).unwrap().shape();
    assert!(channels == 3 && height > 1000 && width > 1500);
}

#[test]
fn identity_gives_the_picture_itself() {
    let place = Place::new();
    filter(&place, &["--demo", "-f", "identity", "--out", "a.png"]).succeeds();
    let report = filter(&place, &["a.png", "-f", "identity", "-o", "b.png", "--json"]).json();
    assert_eq!(place.read("a.png"), place.read("b.png"));
    assert_eq!(report["input"], json!([3, 200, 300]));
    let result = &report["results"][0];
    assert_eq!((&result["filter"], &result["path"]), (&json!("identity"), &json!("b.png")));
    assert_eq!((&result["output"], &result["kernel"]), (&json!([3, 200, 300]), &json!("0 0 0; 0 1 0; 0 0 0")));
    assert!(result["range"][1].as_f64() == Some(255.0) && report.get("sheet").is_none());
}

#[test]
fn own_kernels_equal_the_named_ones() {
    let place = Place::new();
    place.write("own.txt", b"# Sobel\n-1 0 1\n-2 0 2\n-1 0 1\n");
    let written = |arguments: &[&str]| {
        filter(&place, &[&["--demo", "--grey", "--out", "out.png"], arguments].concat()).succeeds();
        place.read("out.png")
    };
    let named = written(&["--filter", "sobel-x"]);
    assert_eq!(written(&["--kernel", "-1 0 1; -2 0 2; -1 0 1"]), named);
    assert_eq!(written(&["--kernel-file", "own.txt"]), named);
    assert_eq!(written(&["--kernel", "-4,0,4;-8,0,8;-4,0,4 / 4", "--abs"]), named);
    // With the sign shown, convolution is not correlation, but that with the flipped kernel.
    let signed = written(&["--filter", "sobel-x", "--offset", "128"]);
    let convolved = written(&["--filter", "sobel-x", "--offset", "128", "--convolution"]);
    assert_ne!(convolved, signed);
    assert_eq!(written(&["--kernel", "1 0 -1; 2 0 -2; 1 0 -1", "--offset", "128"]), convolved);
    assert_eq!(written(&["--filter", "sobel-x", "--raw"]), written(&["--filter", "sobel-x", "--relu"]));
}

#[test]
fn sizes_follow_stride_and_padding() {
    let place = Place::new();
    for (arguments, size) in [
        (&["--stride", "2"][..], [3, 100, 150]),
        (&["--padding", "valid"], [3, 198, 298]),
        (&["--padding", "valid", "--stride", "2x3"], [3, 99, 100]),
        (&["--padding", "4x0", "--padding-mode", "replicate"], [3, 206, 298]),
        (&["--grey", "--padding", "1"], [1, 200, 300]),
    ] {
        let arguments = [&["--demo", "-f", "box-blur", "-o", "out.png", "--json"], arguments].concat();
        let report = filter(&place, &arguments).json();
        assert_eq!(report["results"][0]["output"], json!(size), "{arguments:?}");
        assert_eq!(Bitmap::read(&place.path("out.png")).unwrap().shape(), size, "{arguments:?}");
    }
}

#[test]
fn several_filters_get_a_file_each_and_one_sheet() {
    let place = Place::new();
    let arguments = ["--demo", "-f", "emboss,outline", "--kernel", "1 1/1", "-o", "x.jpg", "--sheet", "s.png"];
    let lines = filter(&place, &arguments).succeeds();
    assert!(
        lines.starts_with("x-emboss.jpg: emboss, 300x200\n") && lines.ends_with("s.png: contact sheet\n"),
        "{lines}"
    );
    assert_eq!(place.list("."), ["s.png", "x-emboss.jpg", "x-kernel.jpg", "x-outline.jpg"]);
}

#[test]
fn lecture_l3_l4_l9_kernels_of_three_channels_give_a_plane_each() {
    let place = Place::new();
    filter(&place, &["--demo", "-f", "identity", "-o", "a.png"]).succeeds();
    let arguments = ["a.png", "--kernel", "0 | 1 | 0", "--kernel", "0 0; 0 0 | 0 0; 0 0 | 1 0; 0 0", "--json"];
    let report =
        filter(&place, &[&arguments[..], &["--padding", "valid", "-o", "p.png", "--sheet", "s.png"]].concat()).json();
    assert_eq!(
        (&report["results"][0]["output"], &report["results"][1]["output"]),
        (&json!([1, 200, 300]), &json!([1, 199, 299]))
    );
    assert_eq!(report["results"][1]["kernel"], "0 0; 0 0 | 0 0; 0 0 | 1 0; 0 0");
    let [picture, green, blue] =
        ["a.png", "p-kernel-1.png", "p-kernel-2.png"].map(|name| Bitmap::read(&place.path(name)).unwrap());
    for y in 0..199 {
        let colour = |c: usize| picture.row(y).iter().copied().skip(c).step_by(3).collect::<Vec<u8>>();
        assert_eq!((green.row(y), blue.row(y)), (&colour(1)[..], &colour(2)[..299]));
    }
    // A grey picture has no colours to take apart.
    filter(&place, &["a.png", "--grey", "--kernel", "0 | 1 | 0", "-o", "g.png"])
        .fails_with(1, "filter 'kernel' has a matrix for each of 3 colours, but the picture is grey");
    place.write("own.txt", b"1 2\n3 4\n|\n0 0\n0 0\n|\n-1 0\n0 0\n/ 10\n");
    let report = filter(&place, &["--demo", "--kernel-file", "own.txt", "-o", "o.png", "--json"]).json();
    assert_eq!(report["results"][0]["kernel"], "1 2; 3 4 | 0 0; 0 0 | -1 0; 0 0 / 10");
}

#[test]
fn kernels_come_from_a_trained_layer() {
    let place = Place::new();
    let kernel = |count: usize, channels: usize| {
        let shape = [count, channels, 3, 3];
        Tensor::new(shape, (0..count * channels * 9).map(|i| ((i * 7 % 11) as f32 - 5.0) / 10.0).collect::<Vec<f32>>())
    };
    let tensors = [("conv1.weight".to_owned(), kernel(2, 3)), ("layer1.weight".to_owned(), kernel(1, 2))];
    safetensors::write(&place.path("w.safetensors"), &tensors.into(), &Default::default()).unwrap();
    let layer = ["--demo", "--weights", "w.safetensors", "--json"];
    let report = filter(&place, &[&layer[..], &["-o", "o.png", "--sheet", "s.png"]].concat()).json();
    let results = report["results"].as_array().unwrap();
    assert_eq!(
        (results.len(), &results[1]["filter"], &results[1]["output"]),
        (2, &json!("conv1-1"), &json!([1, 200, 300]))
    );
    assert!(results[0]["kernel"].as_str().unwrap().starts_with("-0.5 0.2 -0.2; 0.5 "));
    // All shades, with 0 as grey: either black or white is reached.
    let pixels = Bitmap::read(&place.path("o-conv1-0.png")).unwrap();
    let ends = [pixels.pixels().iter().min().unwrap(), pixels.pixels().iter().max().unwrap()];
    assert!(*ends[0] == 0 || *ends[1] == 255, "{ends:?}");
    filter(&place, &[&layer[..], &["-o", "o.png", "--layer", "conv1", "--relu"]].concat()).json();
    assert_eq!(Bitmap::read(&place.path("o-conv1-0.png")).unwrap().pixels().iter().min(), Some(&0));
    let wrong = |flags: &[&str], code: i32, expected: &str| filter(&place, flags).fails_with(code, expected);
    wrong(
        &[&layer[..], &["--layer", "conv2"]].concat(),
        1,
        "w.safetensors: unknown convolution that reads pictures 'conv2'",
    );
    wrong(&["--demo", "--weights", "none.pt"], 1, "none.pt");
    wrong(&["--demo", "--weights", "o-conv1-0.png"], 1, "o-conv1-0.png");
    wrong(&["--demo", "--layer", "conv1"], 2, "--weights");
}

#[test]
fn the_list_has_every_kernel_as_it_is_taken() {
    let place = Place::new();
    let table = filter(&place, &["--list"]).succeeds();
    assert!(table.contains("gaussian-blur") && table.contains("1 2 1; 2 4 2; 1 2 1 / 16"), "{table}");
    let list = filter(&place, &["--list", "--json"]).json();
    let kernels = list.as_array().unwrap().iter().map(|row| row["kernel"].as_str().unwrap());
    let arguments: Vec<&str> = kernels.flat_map(|kernel| ["--kernel", kernel]).collect();
    filter(&place, &[&["--demo", "--sheet-side", "16"], &arguments[..]].concat()).succeeds();
}

#[test]
fn bad_input_is_explained_and_leaves_nothing() {
    let place = Place::new();
    filter(&place, &["--demo", "-f", "identity", "-o", "good.png"]).succeeds();
    let good = place.read("good.png");
    place.write("cut.png", &good[..good.len() / 2]);
    place.write("text.png", b"no picture");
    place.write("ragged.txt", b"1 2 3\n4 5\n");
    place.write("empty.txt", b"\n# nothing\n");
    let before = place.list(".");
    for (code, arguments, expected) in [
        (1, &["none.png"][..], "opening none.png"),
        (1, &["."], "expected a regular file"),
        (1, &["text.png"], "text.png: not a PNG, JPEG, WebP, GIF, TIFF or BMP file"),
        (1, &["cut.png"], "cut.png: cannot be decoded"),
        (2, &["--demo", "-f", "sobelx", "-o", "o.png"], "did you mean 'sobel-x'?"),
        (2, &["--demo", "--out", "o.png"], "say which filter"),
        (2, &["--demo", "-f", "edge", "-o", "o.gif"], "o.gif: expected a name that ends in .png"),
        (1, &["--demo", "-f", "edge", "-o", "no/o.png"], "create it first"),
        (2, &["--demo", "-f", "edge,edge", "-o", "o.png"], "two filters of the same name"),
        (2, &["--demo", "--sheet", "o.jpg"], "a sheet is a PNG file"),
        (2, &["--demo", "--kernel", "1 2; 3"], "row 2 of the kernel: expected 2, got 1"),
        (2, &["--demo", "--kernel", "1 | 2"], "expected 1 channel, or 3 for red, green and blue, got 2 channels"),
        (2, &["--demo", "--kernel", ""], "kernel: expected rows of numbers, got nothing"),
        (2, &["--demo", "--kernel", "1 nan"], "expected finite numbers, got 'nan'"),
        (2, &["--demo", "--kernel", "ragged.txt"], "read it with --kernel-file"),
        (1, &["--demo", "--kernel-file", "ragged.txt"], "ragged.txt: row 2"),
        (1, &["--demo", "--kernel-file", "empty.txt"], "empty.txt: kernel: expected rows of numbers, got nothing"),
        (1, &["--demo", "--kernel-file", "good.png"], "expected rows of numbers as text"),
        (2, &["--demo", "--stride", "0"], "--stride <N>': expected 1 to 64"),
        (1, &["--demo", "--padding", "99999999999"], "too large"),
        (1, &["--demo", "--padding", "9999"], "too large"),
        (2, &["--demo", "--stride", "2x"], "expected a whole number or two"),
        (2, &["--demo", "--padding", "full"], "expected same, valid"),
        (2, &["--demo", "--offset", "inf"], "expected a number"),
        (2, &["--demo", "--relu", "--abs"], "cannot be used with"),
        (2, &["--demo", "good.png"], "cannot be used with"),
        (2, &[], "required"),
    ] {
        filter(&place, arguments).fails_with(code, expected);
        assert_eq!(place.list("."), before, "{arguments:?}");
    }
    let wide = vec!["1"; 201].join(";");
    let arguments = ["good.png", "--kernel", &wide, "--padding", "valid", "-o", "o.png"];
    filter(&place, &arguments).fails_with(1, "the kernel covers 201 pixels of height");
}
