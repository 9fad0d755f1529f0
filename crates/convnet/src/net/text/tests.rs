use super::settings::{names, read};
use super::*;
use crate::geometry::{Padding, Window};
use crate::ops::samples::Sample;
use crate::ops::{AdaptiveAvgPool2d, Conv2d, Linear, MaxPool2d, Op};
use crate::zoo::{Cnn, cnn};

fn with_layers(layers: &str) -> String {
    format!("name = 'n'\ninput = [4, 12, 12]\n{layers}")
}

fn problem(text: &str) -> String {
    Net::from_toml(text).expect_err("was accepted").to_string()
}

#[test]
fn the_lectures_cnn_round_trips() {
    let net = cnn(&Cnn::default()).unwrap();
    assert_eq!(Net::from_toml(&net.to_toml()).unwrap(), net);
    let first = "name = \"cnn\"\ninput = [1, 28, 28]\n\n[[layer]]\nop = \"conv2d\"\nname = \"conv1\"\nout_channels = 32\n\
                 kernel_size = 3\npadding = 1\n\n[[layer]]\nop = \"batch_norm2d\"\nname = \"bn1\"\n\n";
    assert!(net.to_toml().starts_with(first), "{}", net.to_toml());
}

#[test]
fn every_setting_of_every_op_round_trips() {
    for Sample { op, inputs } in Op::samples() {
        let Some((&first, more)) = inputs.split_first() else { continue };
        let mut net = Net::new("a \"quoted\" \\ name", first).unwrap();
        let more = more.iter().enumerate().map(|(index, &shape)| aside(&mut net, index, shape));
        let inputs: Vec<NodeId> = [NodeId(0)].into_iter().chain(more.collect::<Vec<NodeId>>()).collect();
        net.add("the op", op, &inputs).unwrap();
        let text = net.to_toml();
        assert_eq!(Net::from_toml(&text).unwrap(), net, "{text}");
    }
}

/// A node of that shape, made of the net's input.
fn aside(net: &mut Net, index: usize, shape: Shape) -> NodeId {
    let ops = match shape {
        Shape::Map([channels, h, w]) => {
            let pool = Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [h, w] });
            [pool, Op::Conv2d(Conv2d::new(channels, Window::square(1)))]
        }
        Shape::Vector(features) => [Op::Flatten, Op::Linear(Linear::new(features))],
    };
    let mut last = NodeId(0);
    for (step, op) in ops.into_iter().enumerate() {
        last = net.add(&format!("aside{index}.{step}"), op, &[last]).unwrap();
    }
    last
}

#[test]
fn inputs_and_auxiliary_outputs_round_trip() {
    let mut net = Net::new("net", Shape::Map([4, 5, 6])).unwrap();
    let padding = Padding::Explicit { begin: [1, 0], end: [0, 2] };
    net.then("conv", Op::Conv2d(Conv2d::new(4, Window { padding, ..Window::square(1) }))).unwrap();
    let side = net.find("conv").unwrap();
    net.then("tanh", Op::TANH).unwrap();
    let relu = net.add("side", Op::RELU, &[side]).unwrap();
    let sum = net.add("sum", Op::Add, &[side, relu]).unwrap();
    let joined = net.add("joined", Op::Concat, &[side, sum, relu]).unwrap();
    net.add_auxiliary(joined, 0.3).unwrap();
    let text = net.to_toml();
    assert_eq!(Net::from_toml(&text).unwrap(), net, "{text}");
    assert!(text.contains("input = \"conv\"\n") && text.contains("padding = [1, 0, 0, 2]\n"), "{text}");
}

/// Operations and readers are told apart by name: each has the other.
#[test]
fn every_op_has_a_reader() {
    let ops: Vec<&str> = Op::samples().iter().map(|sample| sample.op.name()).filter(|name| *name != "input").collect();
    assert!(names().all(|name| ops.contains(&name)));
    assert!(ops.iter().all(|op| names().any(|name| name == *op)));
}

#[test]
fn readers_and_ops_have_the_same_names() {
    for name in names() {
        let text = "out_channels = 1\nkernel_size = 1\nout_features = 1\nsize = 1\noutput_size = 1\n\
                    end = 1\ngroups = 1\np = 0.1";
        let table = DeTable::parse(text).unwrap();
        let op = read(name, &mut Fields::new(text, table.get_ref(), 0..0)).unwrap().unwrap();
        assert_eq!(op.name(), name);
    }
}

#[test]
fn defaults_are_pytorchs() {
    let text =
        with_layers("layer = [{op='conv2d', out_channels=2, kernel_size=[3,1]}, {op='max_pool2d', kernel_size=2}]");
    let net = Net::from_toml(&text).unwrap();
    let window = Window { kernel: [3, 1], ..Window::square(1) };
    assert_eq!(net.nodes()[1].op, Op::Conv2d(Conv2d::new(2, window)));
    assert_eq!(net.nodes()[1].name, "conv2d_1");
    assert_eq!(net.nodes()[2].op, Op::MaxPool2d(MaxPool2d { window: Window::square(2).stride(2) }));
    assert_eq!(net.output_shape(), Shape::Map([2, 5, 6]));
}

#[test]
fn mistyped_names_are_errors_with_a_line_and_a_suggestion() {
    for (layers, expected) in [
        ("\n[[layer]]\nop = 'conv2'", "line 5: unknown op 'conv2': did you mean 'conv2d'?"),
        ("\n[[layers]]\nop = 'relu'", "line 4: unknown field 'layers': did you mean 'layer'?"),
        (
            "[[layer]]\nop = 'conv2d'\nout_channels = 2\nkernel_size = 3\nstrid = 2",
            "line 7: layer 'conv2d_1' (conv2d): unknown field 'strid': did you mean 'stride'?",
        ),
        (
            "[[layer]]\nop = 'relu'\nname = 'first'\n[[layer]]\nop = 'relu'\ninput = 'frist'",
            "line 8: layer 'relu_2' (relu): input: expected the name of an earlier layer, got 'frist': did you mean 'first'?",
        ),
    ] {
        assert_eq!(problem(&with_layers(layers)), expected);
    }
}

#[test]
fn settings_of_the_wrong_kind_are_errors() {
    for (layer, expected) in [
        ("op='conv2d', kernel_size=3", "expected a value for 'out_channels': a whole number"),
        ("op='conv2d', out_channels=-1, kernel_size=3", "out_channels: expected a whole number, got -1"),
        ("op='conv2d', out_channels=99999999999999999999, kernel_size=3", "a whole number, got 99999999999999999999"),
        ("op='conv2d', out_channels=1, kernel_size=[3,3,3]", "or [height, width], got [3,3,3]"),
        ("op='conv2d', out_channels=1, kernel_size=3, padding='valid'", "or \"same\", got 'valid'"),
        ("op='conv2d', out_channels=1, kernel_size=3, bias='no'", "expected true or false, got 'no'"),
        ("op='conv2d', out_channels=1, kernel_size=3, ceil_mode=true", "unknown field 'ceil_mode'"),
        ("op='dropout', p=1.5", "expected a probability"),
        ("op='dropout', p=nan", "expected a probability"),
        ("op='relu', inputs=['input', 'input']", "expected 1 input, got 2"),
        ("op='relu', input='input', inputs=['input']", "expected input or inputs, got both"),
        ("op='relu', name=''", "expected a name of 1 to 256 bytes, got 0"),
        ("name='x'", "expected a value for 'op'"),
    ] {
        let text = problem(&with_layers(&format!("layer = [{{{layer}}}]")));
        assert!(text.starts_with("line 3: ") && text.contains(expected), "{text}");
    }
}

#[test]
fn shapes_that_do_not_fit_name_the_line_and_the_layer() {
    let text = with_layers("[[layer]]\nop='relu'\n\n[[layer]]\nop = 'linear'\nname = 'head'\nout_features = 10\n");
    let expected =
        "line 6: layer 'head' (linear): expected a vector, got maps of 4x12x12: put a flatten layer before it";
    assert_eq!(problem(&text), expected);
}

#[test]
fn hostile_texts_are_errors() {
    assert!(problem("").contains("expected a value for 'input'"));
    assert!(problem("input = [1, 2").starts_with("line 1: not TOML"));
    assert!(problem("input = [1, 2, 3]").contains("at least one [[layer]]"));
    assert!(problem("input = [0, 2, 3]\nlayer = [{op='relu'}]").contains("at least 1 along every axis"));
    assert!(problem("input = [3, 4294967296, 4294967296]").contains("elements"));
    assert!(problem("name = \"\\u001b[31m\"\ninput = 1").contains("control characters"));
    assert!(problem(&with_layers("layer = [1]")).contains("expected a table"));
    assert!(problem(&format!("input = {}", "[".repeat(100_000))).contains("not TOML"));
    let many = with_layers(&"[[layer]]\nop = 'relu'\n".repeat(super::super::MAX_NODES));
    assert!(problem(&many).contains("at most 10000 nodes"));
    for huge in ["65537", "4611686018427387904", "9223372036854775807", "0x7fffffffffffffff"] {
        for setting in ["kernel_size", "stride", "padding", "dilation", "groups", "out_channels"] {
            let mut settings = vec![("out_channels", "1"), ("kernel_size", "1"), ("op", "'conv2d'")];
            settings.retain(|(key, _)| *key != setting);
            settings.push((setting, huge));
            let settings: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            let text = with_layers(&format!("layer = [{{{}}}]", settings.join(", ")));
            if (setting, huge) != ("out_channels", "65537") {
                assert!(problem(&text).contains("layer 'conv2d_1' (conv2d)"), "{text}");
            }
        }
    }
}

#[test]
fn files_are_named_in_errors() {
    let missing = Net::load("/nowhere/net.toml").unwrap_err().to_string();
    assert!(missing.starts_with("opening /nowhere/net.toml: "), "{missing}");
}

#[test]
fn damaged_texts_never_panic() {
    let text = cnn(&Cnn::default()).unwrap().to_toml().into_bytes();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3_000 {
        let mut damaged = text.clone();
        for _ in 0..1 + random(4) {
            let (from, to) = (random(damaged.len()), random(damaged.len()));
            match random(3) {
                0 => damaged[from] = b"0123456789-[]={}\"'.\n#"[random(21)],
                1 => damaged.truncate(from.max(1)),
                _ => damaged.swap(from, to),
            }
        }
        let _ = Net::from_toml(&String::from_utf8_lossy(&damaged));
    }
}
