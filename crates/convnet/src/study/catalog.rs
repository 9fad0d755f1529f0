//! The studies as data.

use super::Quantity::{Gap, GradientRatio, Macs, Parameters, StepTime, TestError, TrainError};
use super::{Build, Expectation, Panel, Quantity, Scale, Study, Variant, nets};

/// What most studies share: SGD as in He et al. 2016, section 4.2, and statistics of batch norm that do not lag where steps are few.
const SGD: &str = "
precise_bn = 20
train_eval = 2000
[optimizer]
name = 'sgd'
lr = 0.1
momentum = 0.9
weight_decay = 1e-4
[schedule]
name = 'multi-step'
warmup_epochs = 1
";
/// The same without batch norm, which takes a lower rate.
const SGD_WITHOUT_NORM: &str = "
train_eval = 2000
[optimizer]
name = 'sgd'
lr = 0.02
momentum = 0.9
weight_decay = 1e-4
[schedule]
name = 'multi-step'
warmup_epochs = 1
";
/// Adam at a constant rate, as in the lecture's exercise.
const ADAM: &str = "
train_eval = 2000
[optimizer]
name = 'adam'
lr = 0.001
";

const HE: &str = "He et al. 2016, arXiv:1512.03385";

/// A variant whose settings name its network.
const fn named(name: &'static str, about: &'static str, settings: &'static str) -> Variant {
    Variant { name, about, settings, augmented: false, net: None }
}

/// A variant with a network of its own.
const fn built(name: &'static str, about: &'static str, net: Build) -> Variant {
    Variant { name, about, settings: "", augmented: false, net: Some(net) }
}

impl Variant {
    const fn augmented(self) -> Variant {
        Variant { augmented: true, ..self }
    }

    const fn with(self, settings: &'static str) -> Variant {
        Variant { settings, ..self }
    }
}

const fn scale(limit: usize, epochs: usize) -> Scale {
    Scale { limit, epochs, batch: 128 }
}

/// The same with smaller batches, for more steps from few pictures.
const fn steps_of(batch: usize, scale: Scale) -> Scale {
    Scale { batch, ..scale }
}

/// `says`: `less` has less of it than `more`, according to a source.
const fn expect(
    of: Quantity,
    [less, more]: [&'static str; 2],
    says: &'static str,
    source: &'static str,
) -> Expectation {
    Expectation { says, source, of, less, more }
}

/// Every study, in the order of the lecture's rows.
pub static STUDIES: [Study; 9] =
    [ACTIVATION, POOLING, REGULARISATION, KERNELS, BATCHNORM, DEPTH, SHORTCUT, BOTTLENECK, GROWTH];

const ACTIVATION: Study = Study {
    name: "activation",
    title: "ReLU, tanh, sigmoid",
    question: "How large are gradients in the first layers of a deep network with each activation, and how fast does it learn?",
    rows: &["L10"],
    source: "Krizhevsky et al. 2012, section 3.1; Glorot and Bengio 2010",
    data: "Gradients shrink with depth on any pictures; digits show all of it.",
    variants: &[
        built("relu", "max(0, x)", nets::relu),
        built("tanh", "hyperbolic tangent", nets::tanh),
        built("sigmoid", "logistic function", nets::sigmoid),
    ],
    expectations: &[
        expect(
            GradientRatio,
            ["sigmoid", "relu"],
            "The gradient of the first layer is smaller with a sigmoid than with ReLU, compared with that of the last layer",
            "the notes, L10",
        ),
        expect(
            GradientRatio,
            ["tanh", "relu"],
            "The gradient of the first layer is smaller with tanh than with ReLU, compared with that of the last layer",
            "the notes, L10",
        ),
        expect(
            TrainError,
            ["relu", "tanh"],
            "After the same epochs the training error is lower with ReLU than with tanh",
            "Krizhevsky et al. 2012, figure 1",
        ),
        expect(
            TrainError,
            ["relu", "sigmoid"],
            "After the same epochs the training error is lower with ReLU than with a sigmoid",
            "the notes, L10",
        ),
    ],
    settings: SGD_WITHOUT_NORM,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 6)), scale(20_000, 30), scale(0, 60)],
    panels: &[
        Panel::Gradients { title: "Gradient of each layer's weights" },
        Panel::Errors { title: "Error", variants: &[] },
    ],
    columns: &[Parameters, GradientRatio, TrainError, TestError],
};

const POOLING: Study = Study {
    name: "pooling",
    title: "Overlapping pooling",
    question: "Does max pooling of 3×3 at stride 2 do better than 2×2 at stride 2, which makes maps of the same size?",
    rows: &["L10"],
    source: "Krizhevsky et al. 2012, section 3.4",
    data: "AlexNet gained 0.4 points. Digits are too easy for so small a difference: take CIFAR-10 and several seeds.",
    variants: &[
        built("overlapping", "3×3 at stride 2", nets::overlapping),
        built("apart", "2×2 at stride 2", nets::apart),
    ],
    expectations: &[
        expect(
            TestError,
            ["overlapping", "apart"],
            "The held-out error is lower with overlapping pooling",
            "Krizhevsky et al. 2012, section 3.4: by 0.4 points",
        ),
        expect(
            Gap,
            ["overlapping", "apart"],
            "A network with overlapping pooling overfits less",
            "Krizhevsky et al. 2012, section 3.4: \"slightly more difficult to overfit\"",
        ),
    ],
    settings: ADAM,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 8)), scale(20_000, 30), scale(0, 60)],
    panels: &[Panel::Errors { title: "Error", variants: &[] }],
    columns: &[Parameters, Macs, TrainError, TestError, Gap],
};

const REGULARISATION: Study = Study {
    name: "regularisation",
    title: "Dropout and augmentation",
    question: "How far do training and held-out error come apart where pictures are few, and what brings them together?",
    rows: &["L10"],
    source: "Krizhevsky et al. 2012, section 4",
    data: "Digits show it, as the training pictures are few.",
    variants: &[
        built("none", "neither", nets::no_dropout),
        built("dropout", "dropout of 0.5 in the hidden linear layers", nets::dropout),
        built("augmentation", "shifted pictures, mirrored if they are in colour", nets::no_dropout).augmented(),
        built("both", "dropout and augmentation", nets::dropout).augmented(),
    ],
    expectations: &[
        expect(
            Gap,
            ["dropout", "none"],
            "Dropout brings training and held-out error together",
            "Krizhevsky et al. 2012, section 4.2",
        ),
        expect(
            Gap,
            ["augmentation", "none"],
            "Augmentation brings training and held-out error together",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        expect(TestError, ["dropout", "none"], "Dropout lowers the held-out error", "the notes, L10"),
        expect(TestError, ["augmentation", "none"], "Augmentation lowers the held-out error", "the notes, L10"),
        expect(TestError, ["both", "none"], "Both together lower the held-out error", "the notes, L10"),
    ],
    settings: ADAM,
    scales: [steps_of(32, scale(128, 2)), steps_of(50, scale(500, 60)), scale(5_000, 60), scale(0, 90)],
    panels: &[Panel::Errors { title: "Error", variants: &[] }],
    columns: &[Parameters, TrainError, TestError, Gap],
};

const KERNELS: Study = Study {
    name: "kernels",
    title: "Two 3×3 against one 5×5",
    question: "Two 3×3 convolutions see what one 5×5 sees. What do they cost, and which does better?",
    rows: &["L11"],
    source: "Simonyan and Zisserman 2015, section 2.3",
    data: "Parameters, multiply-adds and time are those of any pictures; for the errors take CIFAR-10 and several seeds.",
    variants: &[
        built("two-3x3", "two 3×3 convolutions in each of two stages", nets::two_3x3),
        built("one-5x5", "one 5×5 convolution in each of two stages", nets::one_5x5),
    ],
    expectations: &[
        expect(Parameters, ["two-3x3", "one-5x5"], "Two 3×3 have fewer parameters", "the notes, L11"),
        expect(Macs, ["two-3x3", "one-5x5"], "Two 3×3 take fewer multiply-adds", "the notes, L11"),
        expect(
            TestError,
            ["two-3x3", "one-5x5"],
            "The held-out error is lower with two 3×3",
            "Simonyan and Zisserman 2015, section 4.1: by 7 points on ImageNet",
        ),
    ],
    settings: ADAM,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 8)), scale(20_000, 30), scale(0, 60)],
    panels: &[Panel::Errors { title: "Error", variants: &[] }],
    columns: &[Parameters, Macs, StepTime, TrainError, TestError],
};

const BATCHNORM: Study = Study {
    name: "batchnorm",
    title: "Batch norm and the learning rate",
    question: "At which learning rates does a network learn with batch norm after each convolution, and without?",
    rows: &["L13"],
    source: "Ioffe and Szegedy 2015",
    data: "Digits show it.",
    variants: &[
        built("without-0.01", "no batch norm, learning rate 0.01", nets::without_norm).with("optimizer.lr = 0.01"),
        built("without-0.1", "no batch norm, learning rate 0.1", nets::without_norm).with("optimizer.lr = 0.1"),
        built("without-0.5", "no batch norm, learning rate 0.5", nets::without_norm).with("optimizer.lr = 0.5"),
        built("with-0.01", "batch norm, learning rate 0.01", nets::with_norm).with("optimizer.lr = 0.01"),
        built("with-0.1", "batch norm, learning rate 0.1", nets::with_norm).with("optimizer.lr = 0.1"),
        built("with-0.5", "batch norm, learning rate 0.5", nets::with_norm).with("optimizer.lr = 0.5"),
    ],
    expectations: &[
        expect(
            TrainError,
            ["with-0.01", "without-0.01"],
            "At 0.01 the training error is lower with batch norm",
            "Ioffe and Szegedy 2015, figure 2: it learns faster",
        ),
        expect(
            TrainError,
            ["with-0.1", "without-0.1"],
            "At 0.1 the training error is lower with batch norm",
            "Ioffe and Szegedy 2015, section 3.3: it enables higher rates",
        ),
        expect(
            TrainError,
            ["with-0.5", "without-0.5"],
            "At 0.5 the training error is lower with batch norm",
            "Ioffe and Szegedy 2015, section 3.3: it enables higher rates",
        ),
    ],
    settings: "
precise_bn = 20
train_eval = 2000
[optimizer]
name = 'sgd'
momentum = 0.9
weight_decay = 1e-4
",
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 6)), scale(20_000, 30), scale(0, 60)],
    panels: &[
        Panel::Errors { title: "Error without batch norm", variants: &["without-0.01", "without-0.1", "without-0.5"] },
        Panel::Errors { title: "Error with batch norm", variants: &["with-0.01", "with-0.1", "with-0.5"] },
    ],
    columns: &[Parameters, TrainError, TestError],
};

const DEPTH: Study = Study {
    name: "depth",
    title: "Plain and residual networks of 20 and 56 layers",
    question: "Does a deeper network train better, with shortcuts and without?",
    rows: &["L13"],
    source: "He et al. 2016, section 4.2 and figure 6",
    data: "Digits show that 56 plain layers are harder to train; the paper's figure is of CIFAR-10.",
    variants: &[
        named("plain20", "20 layers", "model.name = 'plain20'").augmented(),
        named("plain56", "56 layers", "model.name = 'plain56'").augmented(),
        named("resnet20", "20 layers with shortcuts", "model.name = 'resnet20'").augmented(),
        named("resnet56", "56 layers with shortcuts", "model.name = 'resnet56'").augmented(),
    ],
    expectations: &[
        expect(
            TrainError,
            ["plain20", "plain56"],
            "Without shortcuts 56 layers have a larger training error than 20",
            "He et al. 2016, figure 6, left; the notes, L13",
        ),
        expect(
            TestError,
            ["plain20", "plain56"],
            "Without shortcuts 56 layers have a larger held-out error than 20",
            "He et al. 2016, figure 6, left; the notes, L13",
        ),
        expect(
            TrainError,
            ["resnet56", "plain56"],
            "At 56 layers the training error is lower with shortcuts",
            "He et al. 2016, figure 6; the notes, L13",
        ),
        expect(
            TestError,
            ["resnet56", "plain56"],
            "At 56 layers the held-out error is lower with shortcuts",
            "He et al. 2016, figure 6; the notes, L13",
        ),
        expect(
            TestError,
            ["resnet56", "resnet20"],
            "With shortcuts 56 layers have a lower held-out error than 20",
            "He et al. 2016, table 6: 6.97 % and 8.75 % after 64,000 steps",
        ),
    ],
    settings: SGD,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(20_000, 8)), scale(0, 12), scale(0, 164)],
    panels: &[
        Panel::Errors { title: "Error, plain", variants: &["plain20", "plain56"] },
        Panel::Errors { title: "Error, residual", variants: &["resnet20", "resnet56"] },
    ],
    columns: &[Parameters, Macs, TrainError, TestError],
};

const SHORTCUT: Study = Study {
    name: "shortcut",
    title: "Shortcuts A, B and C",
    question: "What is gained where a 1×1 convolution carries a block's input past it, instead of the identity?",
    rows: &["L13"],
    source: "He et al. 2016, section 4.1, table 3",
    data: "The paper found differences of half a point on ImageNet: they take CIFAR-10, the largest budget and several seeds.",
    variants: &[
        named("a", "identity, padded with zeros", "model = { name = 'resnet20', shortcut = 'a' }").augmented(),
        named("b", "projection where shapes change", "model = { name = 'resnet20', shortcut = 'b' }").augmented(),
        named("c", "projection in every block", "model = { name = 'resnet20', shortcut = 'c' }").augmented(),
    ],
    expectations: &[
        expect(Parameters, ["a", "b"], "B has more parameters than A", HE),
        expect(Parameters, ["b", "c"], "C has more parameters than B", HE),
        expect(TestError, ["b", "a"], "B has a slightly lower held-out error than A", "He et al. 2016, table 3"),
        expect(TestError, ["c", "b"], "C has a slightly lower held-out error than B", "He et al. 2016, table 3"),
    ],
    settings: SGD,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 10)), scale(20_000, 20), scale(0, 164)],
    panels: &[Panel::Errors { title: "Error", variants: &[] }],
    columns: &[Parameters, Macs, TrainError, TestError],
};

const BOTTLENECK: Study = Study {
    name: "bottleneck",
    title: "Bottlenecks against two 3×3",
    question: "A bottleneck (1×1, 3×3, 1×1) takes about the multiply-adds of two 3×3 and is three layers deep. Does it do better?",
    rows: &["L9", "L12", "L13"],
    source: "He et al. 2016, section 4.1",
    data: "For the errors take CIFAR-10, the largest budget and several seeds.",
    variants: &[
        named("two-3x3", "blocks of two 3×3", "model = { name = 'resnet20', shortcut = 'b' }").augmented(),
        built("bottleneck", "blocks of 1×1, 3×3, 1×1, four times as wide outside", nets::bottleneck).augmented(),
    ],
    expectations: &[expect(
        TestError,
        ["bottleneck", "two-3x3"],
        "The held-out error is lower with bottlenecks",
        "He et al. 2016, table 3: ResNet-50 and ResNet-34 on ImageNet",
    )],
    settings: SGD,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 10)), scale(20_000, 20), scale(0, 164)],
    panels: &[Panel::Errors { title: "Error", variants: &[] }],
    columns: &[Parameters, Macs, StepTime, TrainError, TestError],
};

const GROWTH: Study = Study {
    name: "growth",
    title: "DenseNet's growth rate",
    question: "What does a dense block gain from more channels by layer?",
    rows: &["L14"],
    source: "Huang et al. 2017, section 4.3, table 2",
    data: "Digits show it at small budgets, where none of the networks is perfect; the paper's table is of CIFAR.",
    variants: &[
        built("k4", "4 channels by layer", nets::growth_4).augmented(),
        built("k8", "8 channels by layer", nets::growth_8).augmented(),
        built("k12", "12 channels by layer", nets::growth_12).augmented(),
    ],
    expectations: &[
        expect(Parameters, ["k4", "k8"], "A larger k has more parameters", "the notes, L14"),
        expect(
            TestError,
            ["k8", "k4"],
            "The held-out error is lower with k = 8 than with k = 4",
            "Huang et al. 2017, section 4.3",
        ),
        expect(
            TestError,
            ["k12", "k8"],
            "The held-out error is lower with k = 12 than with k = 8",
            "Huang et al. 2017, section 4.3",
        ),
    ],
    settings: SGD,
    scales: [steps_of(32, scale(128, 2)), steps_of(64, scale(5_000, 10)), scale(20_000, 20), scale(0, 300)],
    panels: &[Panel::Errors { title: "Error", variants: &[] }],
    columns: &[Parameters, Macs, TrainError, TestError],
};
