//! L13: ResNet, its shortcuts, and the experiment with depth.

use super::figure::{CHANNELS, NO_UNIT, PARAMETERS, product};
use super::live::{chain, conv, layer, maps, matrix, named, run, table, weight_axes, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::columns::{duration, thousands};
use crate::exec::Engine;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Conv2d, Op};
use crate::roofline;
use crate::zoo::{self, Shortcut, ZooOptions};

/// L13.
pub(super) fn explain() -> Result<Vec<Block>> {
    Ok([depth()?, identity()?, shortcuts()?, bottleneck()?, experiment()?, commands()].concat())
}

fn depth() -> Result<Vec<Block>> {
    Ok(vec![
        Block::Words(Text::new(
            "More layers should do no harm: those that are not needed could learn to pass their input on. Yet a plain net of 56 layers \
             trains and tests worse than one of 20. ResNet cures that with the skip connection: the input x of a block is added to what \
             its convolutions make of it, x + f(x). The block learns only the difference, and passing x on is the easiest thing for it.",
            "layer가 많아도 손해는 아니어야 한다. 필요 없는 layer는 입력을 그대로 넘기도록 학습되면 되기 때문이다. 그런데 아무리 잘 학습해도 \
             56-layer보다 20-layer가 더 잘 된다. ResNet은 skip connection으로 이를 해결한다. block의 입력 x를 convolution의 출력에 더해 \
             x + f(x)로 만드는 것이다. 그러면 block은 차이만 학습하면 되고, x를 그대로 넘기는 일이 가장 쉬운 일이 된다.",
        )),
        Block::Slip(Text::new(
            "The notes explain the curves by \"a smaller training error but a larger test error\". That would be overfitting. The figure \
             shows the opposite: the 56-layer net is worse on the training set as well. It is not too strong, it is harder to optimize \
             (the paper's degradation problem).",
            "노트는 그래프를 \"training error가 더 작음에도 test error가 더 큰 경우\"라고 설명하는데, 그것은 overfitting이다. 그래프가 보여 주는 것은 \
             그 반대로, 56-layer는 training error도 더 크다. 너무 강해서가 아니라 최적화가 어려워서 생기는 문제이다(논문의 degradation).",
        )),
    ])
}

/// Two convolutions, with or without a shortcut past them.
fn small_block(shortcut: bool) -> Result<Net> {
    let conv3x3 = Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(1, Window::square(3).padding(1)) });
    let mut net = chain([1, 2, 2], &[("conv1", conv3x3.clone()), ("relu1", Op::RELU), ("conv2", conv3x3)])?;
    if shortcut {
        let branch = net.output();
        net.add("add", Op::Add, &[branch, NodeId(0)])?;
    }
    net.then("relu", Op::RELU)?;
    Ok(net)
}

fn identity() -> Result<Vec<Block>> {
    const X: [f64; 4] = [1., 2., 3., 4.];
    let through = |shortcut| run(&small_block(shortcut)?, &[("conv1", &[0.0; 9]), ("conv2", &[0.0; 9])], &X);
    let grid = |name: &str, numbers: &[f64]| [vec![format!("{name:<12}")], matrix(numbers, 2)].concat();
    let (plain, residual) = (through(false)?, through(true)?);
    let kept = X.iter().zip(&residual).filter(|(x, y)| x == y).count();
    let shown =
        super::live::beside(&[grid("x", &X), grid("plain block", &plain), grid("with shortcut", &residual)], "    ");
    Ok(vec![
        Block::Words(Text::new(
            "Two blocks whose weights are all 0, run just now. The plain one loses its input, the other passes it on:",
            "가중치가 모두 0인 block 둘을 방금 실행한 결과이다. plain block은 입력을 잃지만, shortcut이 있으면 그대로 넘긴다.",
        )),
        Block::Exhibit(Text::same(shown)),
        Block::Figure(Figure::new(Text::new("values of x that survive", "살아남은 x의 값"), kept, NO_UNIT)),
    ])
}

fn shortcuts() -> Result<Vec<Block>> {
    let with = |shortcut| zoo::by_name("resnet20", &ZooOptions { shortcut: Some(shortcut), ..ZooOptions::default() });
    let [padded, projected, everywhere] = [with(Shortcut::A)?, with(Shortcut::B)?, with(Shortcut::C)?];
    let table = projected.table(1);
    let (simple, changed) = (layer(&table, "layer1.0.add")?, layer(&table, "layer2.0.add")?);
    let sizes = |row: &crate::net::LayerRow| product(&maps(&row.output), "×");
    let parameters = |net: &Net, en: &'static str, ko: &'static str| {
        Block::Figure(Figure::new(Text::new(en, ko), net.parameter_count(), PARAMETERS))
    };
    Ok(vec![
        Block::Words(Text::with(
            format!(
                "Only equal shapes can be added. The simple shortcut is the identity: in `resnet20` from {} to {}, without a parameter. \
                 Where the shape changes to {}, the projected shortcut brings x to that shape by a 1×1 convolution at stride 2:",
                sizes(layer(&table, "relu")?),
                sizes(simple),
                sizes(changed)
            ),
            format!(
                "더하려면 차원이 같아야 한다. simple shortcut은 identity map 그대로이다. `resnet20`에서는 {} → {}이고 파라미터가 없다. 차원이 \
                 {}로 달라지는 곳에서는 projected shortcut이 stride 2인 1 × 1 convolution으로 channel을 바꿔 맞춘다.",
                sizes(layer(&table, "relu")?),
                sizes(simple),
                sizes(changed)
            ),
        )),
        Block::Figure(weights(
            &projected,
            "layer2.0.shortcut.0",
            Text::new("projection of 16 to 32 channels", "16 → 32 channel projection"),
        )?),
        parameters(&padded, "resnet20, identity padded with zeros (A)", "resnet20, 0을 채운 identity (A)"),
        parameters(&projected, "resnet20, projected where needed (B)", "resnet20, 필요한 곳만 projection (B)"),
        parameters(&everywhere, "resnet20, projected everywhere (C)", "resnet20, 모든 block에 projection (C)"),
        Block::Words(Text::new(
            "Mostly the simple shortcut is used, for the projected one costs parameters and gains little. Batch norm follows each \
             convolution.",
            "projected shortcut은 파라미터가 늘어나는 데 비해 이득이 작아서 보통은 simple shortcut을 쓴다. 그리고 batch normalization은 convolution \
             뒤에 온다.",
        )),
        Block::Slip(Text::new(
            "The notes draw a shortcut past one convolution layer. ResNet's blocks have two or three: past a single layer, x + W·x is still \
             linear, and the paper saw no gain from it.",
            "노트에는 convolution layer 하나를 건너뛰는 것으로 되어 있으나 ResNet의 block은 layer가 두 개 또는 세 개이다. 하나만 건너뛰면 x + W·x로 \
             여전히 선형이고, 논문에서도 이득이 없었다.",
        )),
    ])
}

fn bottleneck() -> Result<Vec<Block>> {
    let net = named("resnet50")?;
    let table = net.table(1);
    let names = ["layer1.1.conv1", "layer1.1.conv2", "layer1.1.conv3"];
    let axes = names
        .iter()
        .map(|name| weight_axes(&net, name).map(|axes| product(&axes, " · ")))
        .collect::<Result<Vec<String>>>()?;
    let sum: u64 = names.iter().map(|name| layer(&table, name).map(|row| row.weights)).sum::<Result<u64>>()?;
    let ends = [&layer(&table, names[0])?.input, &layer(&table, names[2])?.output];
    let wide = conv(ends[0][0], Window::square(3).padding(1));
    let basic = chain([ends[0][0], 56, 56], &[("conv1", wide.clone()), ("conv2", wide)])?.table(1).total.weights;
    Ok(vec![
        Block::Words(Text::new(
            "The bottleneck: a 1×1 convolution reduces the channels, a 3×3 widens the receptive field on the few that are left, and another \
             1×1 restores the channels that are wanted. A block of `resnet50`, against two 3×3 on all 256 channels:",
            "Bottleneck 구조: 1 × 1 conv로 channel을 줄이고, 줄인 channel에 3 × 3 conv를 해서 receptive field를 키운 다음, 다시 1 × 1 conv로 원하는 \
             channel을 맞춘다. `resnet50`의 block 하나를, 256 channel 전체에 3 × 3을 두 번 하는 것과 비교해 보자.",
        )),
        Block::Figure(Figure::new(Text::new("channels in and out", "입력과 출력의 channel"), ends[1][0], CHANNELS)),
        Block::Figure(Figure::weights(Text::new("bottleneck", "bottleneck"), sum).working(axes.join(" + "))),
        Block::Figure(Figure::weights(Text::new("two 3×3", "3×3 두 번"), basic).remark(Text::with(
            format!("{:.0} times as many.", basic as f64 / sum as f64),
            format!("약 {:.0}배이다.", basic as f64 / sum as f64),
        ))),
    ])
}

/// Pictures of CIFAR-10's training set.
const CIFAR_PICTURES: u64 = 50_000;
/// Pictures of a step in the paper.
const BATCH: u64 = 128;

fn experiment() -> Result<Vec<Block>> {
    let machine = roofline::cached(&Engine::new(0)?);
    let (gflops, threads) = (machine.gflops, machine.threads);
    let steps = CIFAR_PICTURES.div_ceil(BATCH);
    let mut rows = Vec::new();
    for name in ["plain20", "resnet20", "plain56", "resnet56"] {
        let net = named(name)?;
        let total = net.table(1).total;
        let least = steps as f64 * net.estimate(&machine, BATCH).training_ms / 1e3;
        rows.push(vec![name.to_owned(), thousands(total.params), thousands(total.macs), duration(least)]);
    }
    let headings = [
        Text::new("network", "신경망"),
        Text::new("parameters", "파라미터"),
        Text::new("MACs", "MAC"),
        Text::new("least time of an epoch here", "이 컴퓨터의 epoch당 최소 시간"),
    ];
    Ok(vec![
        Block::Words(Text::with(
            format!(
                "The experiment itself takes hours, so it is not run here; the commands below train the four nets on CIFAR-10 and leave the \
             curves of training and test error. Plain and residual nets have the same parameters and the same multiply-adds: the \
             shortcut is all that differs. The times are those of this machine, which was measured: {gflops:.0} GFLOP/s with {threads} \
             threads, and the bandwidth of its memory. They are the least that {steps} steps of {BATCH} pictures can take; layers \
             as small as these leave much of the machine unused, so expect several times that. `convnet bench MODEL --mode train` measures \
             it. The paper trains for 64,000 steps of 128 \
             pictures, some 160 epochs (`--epochs`).",
            ),
            format!(
                "이 실험은 몇 시간이 걸리므로 여기서 실행하지는 않는다. 아래 명령으로 네 신경망을 CIFAR-10으로 학습하면 training error와 test error \
             곡선이 남는다. plain과 residual은 파라미터도 계산량도 같고 shortcut만 다르다. 시간은 이 컴퓨터를 \
             실제로 재어 얻은 값이다: thread {threads}개로 {gflops:.0} GFLOP/s, 그리고 메모리 대역폭. 이미지 {BATCH}장씩 {steps}번 학습하는 데 \
             걸릴 수 있는 최소 시간이다. 이렇게 작은 layer는 컴퓨터의 성능을 다 쓰지 못하므로 실제로는 그 몇 배가 걸린다. \
             `convnet bench MODEL --mode train`으로 잴 수 있다. 논문은 이미지 \
             128장씩 64,000번, 약 160 epoch을 학습한다(`--epochs`).",
            ),
        )),
        Block::Exhibit(table(1, &headings, &rows)),
    ])
}

fn commands() -> Vec<Block> {
    vec![
        Block::Try(
            "convnet train --model plain20 --data cifar-10-batches-bin --out runs/plain20",
            Text::new("20 layers, plain", "shortcut이 없는 20-layer"),
        ),
        Block::Try(
            "convnet train --model plain56 --data cifar-10-batches-bin --out runs/plain56",
            Text::new("56 layers, plain: worse, says the paper", "shortcut이 없는 56-layer: 논문에서는 더 나쁘다"),
        ),
        Block::Try(
            "convnet train --model resnet20 --data cifar-10-batches-bin --out runs/resnet20",
            Text::new("20 layers with shortcuts", "shortcut이 있는 20-layer"),
        ),
        Block::Try(
            "convnet train --model resnet56 --data cifar-10-batches-bin --out runs/resnet56",
            Text::new(
                "56 layers with shortcuts: better, says the paper",
                "shortcut이 있는 56-layer: 논문에서는 더 좋다",
            ),
        ),
        Block::Try(
            "convnet summary resnet20 --shortcut b",
            Text::new("projected shortcuts, layer by layer", "projected shortcut을 layer별로"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::computed;
    use super::*;

    #[test]
    fn lecture_l13_a_shortcut_passes_its_input_on() {
        let zeros = [0.0; 9];
        let of = |shortcut| {
            run(&small_block(shortcut).unwrap(), &[("conv1", &zeros), ("conv2", &zeros)], &[1.0, 2.0, 3.0, 4.0])
                .unwrap()
        };
        assert_eq!((of(false), of(true)), (vec![0.0; 4], vec![1.0, 2.0, 3.0, 4.0]));
    }

    #[test]
    fn lecture_l13_shortcuts_and_bottlenecks() {
        // B adds two projections with batch norm: 16·32 + 64 and 32·64 + 128; C one in each block.
        let b = 269_722 + 16 * 32 + 64 + 32 * 64 + 128;
        let c = b + 3 * (16 * 16 + 32) + 2 * (32 * 32 + 64) + 2 * (64 * 64 + 128);
        let expected = ["4".to_owned(), "512".into(), "269,722".into(), thousands(b), thousands(c)];
        assert_eq!(computed(explain())[..5], expected);
        assert_eq!(computed(explain())[5..], ["256", "69,632", "1,179,648"]);
    }

    #[test]
    fn lecture_l13_plain_and_residual_nets_cost_the_same() {
        for depth in [20, 56] {
            let of = |family| named(&format!("{family}{depth}")).unwrap().table(1).total;
            assert_eq!(of("plain"), of("resnet"));
        }
    }
}
