//! L10: AlexNet, `alexnet_2012` of the zoo.

use std::iter;

use convnet_kernels::reference::activation;

use super::figure::{PIXELS, WEIGHTS, product};
use super::live::{chain, layer, maps, named, run, side, table, weights};
use super::{Block, Figure, Text};
use crate::columns::thousands;
use crate::geometry::{ReceptiveField, Window};
use crate::net::Net;
use crate::ops::Activation;
use crate::{Error, Result};

/// L10.
pub(super) fn explain() -> Result<Vec<Block>> {
    let net = named("alexnet_2012")?;
    Ok([introduction(), layers(&net)?, input()?, ideas(&net)?, commands()].concat())
}

fn introduction() -> Vec<Block> {
    vec![
        Block::Words(Text::new(
            "Eight layers, five of them convolutions, in two towers: the memory of one graphics card did not hold the 96 maps of \
             the first layer, so each of two cards computed 48. Written as one network, convolutions 2, 4 and 5 have two groups, \
             each of which sees its own tower's channels alone; convolution 3 and the dense layers see both.",
            "layer 8개(convolution 5개와 dense 3개)로 된 네트워크가 두 갈래로 나누어져 있다. 96 channel짜리 feature map을 만들어야 하는데 GPU \
             메모리가 부족해서, GPU 두 개가 48 channel씩 나누어 맡은 것이다. 하나의 네트워크로 쓰면 convolution 2, 4, 5가 group 2개를 가지며 \
             각 group은 자기 갈래의 channel만 본다. convolution 3과 dense layer는 양쪽을 모두 본다.",
        )),
        Block::Words(Text::new(
            "The weights of each layer (for both towers together), read from the network `alexnet_2012`:",
            "`alexnet_2012`에서 읽은 layer별 가중치 수(두 갈래 합계):",
        )),
    ]
}

fn layers(net: &Net) -> Result<Vec<Block>> {
    let before_pooling = maps(&layer(&net.table(1), "relu5")?.output);
    let [height, width, channels] = before_pooling;
    let first_dense = layer(&net.table(1), "fc6")?.output[0];
    // What the notes multiply.
    let unpooled = (height * width * channels * first_dense) as u64;
    let counts = [
        ("conv1", "11·11·3·48·2", 34_848_u64),
        ("conv2", "5·5·48·128·2", 307_200),
        ("conv3", "3·3·(128·2)·(192·2)", 884_736),
        ("conv4", "3·3·192·192·2", 663_552),
        ("conv5", "3·3·192·128·2", 442_368),
        ("fc6", "13·13·128·2·2048·2", 177_209_344),
        ("fc7", "2048·2·2048·2", 16_777_216),
        ("fc8", "2048·2·1000", 4_096_000),
    ];
    let table = net.table(1);
    let mut blocks = Vec::new();
    for (name, as_written, notes) in counts {
        let called = Text::with(format!("{name}: {as_written}"), format!("{name}: {as_written}"));
        let figure = weights(net, name, called)?.notes(notes);
        blocks.push(Block::Figure(match name {
            "fc6" => figure.working(format!("{} · {}", product(&maps(&layer(&table, "avgpool")?.output), " · "), thousands(first_dense as u64))).remark(Text::with(
                format!(
                    "The notes multiply the {} map as it is before the last pooling: {} · {first_dense} = {}. Between it and \
                     the dense layer stands a 3×3 pooling at stride 2, which leaves 6×6.",
                    product(&before_pooling, "×"),
                    product(&before_pooling, " · "),
                    thousands(unpooled)
                ),
                format!(
                    "노트는 마지막 pooling을 거치기 전의 {} map으로 {} · {first_dense} = {}를 계산했다. 그러나 dense layer 앞에는 stride 2인 3×3 \
                     pooling이 있어 6×6만 남는다.",
                    product(&before_pooling, "×"),
                    product(&before_pooling, " · "),
                    thousands(unpooled)
                ),
            )),
            _ => figure,
        }));
    }
    let (dense, total) = (table.classifier.weights, table.total.weights);
    let as_noted = total - layer(&table, "fc6")?.weights + unpooled;
    blocks.push(Block::Figure(
        Figure::new(Text::new("all weights", "가중치 전체"), total, WEIGHTS).remark(Text::with(
            format!(
                "{:.0} % of them in the three dense layers. With the notes' first dense layer it would be {}: more than VGG-16 \
                 has, against the notes' own order in L12.",
                100.0 * dense as f64 / total as f64,
                thousands(as_noted)
            ),
            format!(
                "이 중 {:.0} %가 dense layer 3개에 있다. 노트의 첫 dense layer대로라면 {}개가 되어 VGG-16보다 많아지고, L12에서 노트가 말하는 \
                 순서와도 어긋난다.",
                100.0 * dense as f64 / total as f64,
                thousands(as_noted)
            ),
        )),
    ));
    Ok(blocks)
}

fn input() -> Result<Vec<Block>> {
    let first = Window::square(11).stride(4);
    let mut needed = 11;
    while side(&first, needed)? < 55 {
        needed += 1;
    }
    let with = |input: usize, padding: usize| side(&first.padding(padding), input).map(|n| n.to_string());
    let rows = [(244, 0), (224, 0), (224, 2), (227, 0)]
        .into_iter()
        .map(|(input, padding)| Ok(vec![input.to_string(), padding.to_string(), with(input, padding)?]))
        .collect::<Result<Vec<_>>>()?;
    let headings = [
        Text::new("input", "입력"),
        Text::new("padding", "padding"),
        Text::new("after 11×11 at stride 4", "11×11, stride 4 뒤"),
    ];
    Ok(vec![
        Block::Words(Text::new(
            "How large is the input? The maps after the first convolution are 55×55, on that all agree:",
            "입력 크기는 얼마일까? 첫 convolution 뒤의 map이 55×55라는 데에는 이견이 없다.",
        )),
        Block::Exhibit(table(0, &headings, &rows)),
        Block::Figure(
            Figure::new(Text::new("smallest side that gives 55 without padding", "padding 없이 55가 나오는 가장 작은 입력"), needed, PIXELS)
                .working("(55 − 1) · 4 + 11")
                .notes(244_u64)
                .remark(Text::new(
                    "The notes' 244 is a slip for the paper's 224, and that does not give 55 either: it takes 227, or 224 with a \
                     padding of 2, as today's versions and `alexnet_2012` have it.",
                    "노트의 244는 논문의 224를 잘못 옮긴 것이고, 224로도 55가 나오지 않는다. 227이거나, 요즘 구현과 `alexnet_2012`처럼 224에 padding \
                     2를 주어야 한다.",
                )),
        ),
    ])
}

/// What was new.
fn ideas(net: &Net) -> Result<Vec<Block>> {
    let slopes = |x: f64| {
        let slope = |of| format!("{:.4}", activation::slope(of, x));
        iter::once(x.to_string()).chain([Activation::Sigmoid, Activation::Tanh, Activation::Relu].map(slope)).collect()
    };
    let headings = ["x", "sigmoid'", "tanh'", "ReLU'"].map(Text::same);
    let norm = net.find("norm1").map(|id| net.node(id).op.clone());
    let norm = norm.ok_or_else(|| Error::invalid("'alexnet_2012' has no layer 'norm1'"))?;
    let alone = chain([5, 1, 1], &[("norm", norm)])?;
    let middle = |neighbour: f64| run(&alone, &[], &[1.0, neighbour, 1.0, 1.0, 1.0]).map(|channels| channels[2]);
    let pooled: Vec<usize> = ["conv1", "pool1", "pool2", "pool5"]
        .into_iter()
        .map(|name| layer(&net.table(1), name).map(|row| row.output[1]))
        .collect::<Result<_>>()?;
    let small = Window::square(3);
    let five = (0..5).fold(ReceptiveField::PIXEL, |field, _| field.through(&small));
    let (areas, stacked) = (11 * 11, 5 * 3 * 3);
    Ok(vec![
        Block::Words(Text::new(
            "ReLU keeps the gradient at 1 for every positive input, where sigmoid and tanh go flat away from 0. Their slopes:",
            "ReLU는 입력이 양수이면 기울기가 항상 1이다. sigmoid와 tanh는 0에서 멀어지면 기울기가 0에 가까워져 gradient가 사라진다. 기울기를 \
             비교하면 다음과 같다.",
        )),
        Block::Exhibit(table(0, &headings, &[-2.0, 0.0, 2.0, 5.0].map(slopes))),
        Block::Words(Text::with(
            format!(
                "Local response normalization divides a response by those of neighbouring channels, so that a strong one quiets the \
                 rest: a response of 1 between weak neighbours becomes {:.3}, beside a neighbour of 100 {:.3}. Overlapping pooling \
                 (3×3 at stride 2) takes the maps from {} to {}, {} and {}. Data augmentation and dropout, which sets neurons to 0 \
                 at random, work against overfitting.",
                middle(1.0)?,
                middle(100.0)?,
                pooled[0],
                pooled[1],
                pooled[2],
                pooled[3]
            ),
            format!(
                "Local response normalization은 이웃한 feature map의 response로 나누어, 강한 response가 주변을 누르게 한다. 값이 1인 response가 \
                 약한 이웃 사이에서는 {:.3}가 되고 100짜리 이웃 옆에서는 {:.3}가 된다. overlapping pooling(3×3을 2픽셀 간격으로)은 map의 한 변을 \
                 {}에서 {}, {}, {}으로 줄인다. data augmentation과, 뉴런 몇 개를 0으로 바꾸는 dropout은 overfitting을 막는다.",
                middle(1.0)?,
                middle(100.0)?,
                pooled[0],
                pooled[1],
                pooled[2],
                pooled[3]
            ),
        )),
        Block::Figure(
            Figure::new(Text::new("field of five 3×3 at stride 1", "3×3 다섯 번(stride 1)의 receptive field"), five.size[0], PIXELS).remark(
                Text::with(
                    format!(
                        "Why 11×11 is unwise: five 3×3 see as much with 5 · 9 = {stacked} instead of 11 · 11 = {areas} weights for each pair of \
                         channels."
                    ),
                    format!(
                        "11×11이 현명하지 않은 이유: 3×3 다섯 번이면 같은 영역을 보면서 channel 한 쌍당 가중치가 11 · 11 = {areas}개가 아니라 5 · 9 = \
                         {stacked}개이다."
                    ),
                ),
            ),
        ),
        Block::Slip(Text::new(
            "ReLU's slope is 1 for positive inputs only; for negative ones it is 0, and a neuron that is always negative stops \
             learning. And local response normalization damps neighbours smoothly, it does not kill the strongest responses.",
            "ReLU의 기울기가 1인 것은 양수일 때뿐이다. 음수이면 0이라서, 늘 음수만 받는 뉴런은 학습을 멈춘다. 또 local response \
             normalization은 response가 큰 것을 죽이는 것이 아니라, 큰 response 주변을 부드럽게 누른다.",
        )),
    ])
}

fn commands() -> Vec<Block> {
    vec![
        Block::Try(
            "convnet summary alexnet_2012",
            Text::new("every layer of the two towers", "두 갈래 AlexNet의 모든 layer"),
        ),
        Block::Try(
            "convnet summary alexnet_2012 --input 3x244x244",
            Text::new("what the notes' 244 would do to the maps", "노트대로 244를 넣으면 map 크기가 어떻게 되는지"),
        ),
        Block::Try(
            "convnet summary alexnet",
            Text::new("the single tower of 2014, as in torchvision", "torchvision에 있는 한 갈래짜리(2014)"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{computed, differing, figures};
    use super::*;

    #[test]
    fn lecture_l10_weights_per_layer() {
        let all = computed(explain());
        let expected = ["34,848", "307,200", "884,736", "663,552", "442,368", "37,748,736", "16,777,216", "4,096,000"];
        assert_eq!(all[..8], expected);
        assert_eq!(all[8..], ["60,954,656", "227", "11"]);
    }

    #[test]
    fn lecture_l10_the_dense_layer_and_the_input_slip() {
        assert_eq!(differing(explain()), [("177,209,344".into(), "37,748,736".into()), ("244".into(), "227".into())]);
        let fc6 = figures(explain()).remove(5);
        assert_eq!(fc6.working, "6 · 6 · 256 · 4,096");
        let remark = fc6.remark.unwrap();
        assert!(remark.get(super::super::Lang::En).contains("13 · 13 · 256 · 4096 = 177,209,344"));
    }

    #[test]
    fn lecture_l10_input_sizes() {
        let first = Window::square(11).stride(4);
        let sides =
            [(244, 0), (224, 0), (224, 2), (227, 0)].map(|(n, padding)| side(&first.padding(padding), n).unwrap());
        assert_eq!(sides, [59, 54, 55, 55]);
    }
}
