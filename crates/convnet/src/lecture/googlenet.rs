//! L12: GoogLeNet, its inception blocks and its small number of parameters.

use super::figure::{CHANNELS, NO_UNIT, product};
use super::live::{chain, conv, layer, maps, named, table, weight_axes, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::columns::thousands;
use crate::geometry::Window;
use crate::net::Table;

/// L12.
pub(super) fn explain() -> Result<Vec<Block>> {
    Ok([block()?, bottleneck()?, order()?].concat())
}

/// Four branches of the paper's first inception block.
fn block() -> Result<Vec<Block>> {
    let net = named("googlenet_v1")?.table(1);
    let at = |name: &str| layer(&net, &format!("inception3a.{name}"));
    let (input, joined) = (at("branch1.conv")?.input.clone(), at("concat")?);
    let channels = |name: &str| at(name).map(|row| row.output[0].to_string());
    let branches = [
        vec!["1×1".to_owned(), channels("branch1.conv")?],
        vec!["1×1 → 3×3".to_owned(), format!("{} → {}", channels("branch2.0.conv")?, channels("branch2.1.conv")?)],
        vec!["1×1 → 5×5".to_owned(), format!("{} → {}", channels("branch3.0.conv")?, channels("branch3.1.conv")?)],
        vec!["3×3 max pool → 1×1".to_owned(), format!("{} → {}", input[0], channels("branch4.1.conv")?)],
    ];
    let headings = [Text::new("branch", "갈래"), Text::new("channels", "channel")];
    let sum: Vec<String> = ["branch1.conv", "branch2.1.conv", "branch3.1.conv", "branch4.1.conv"]
        .iter()
        .map(|name| channels(name))
        .collect::<Result<_>>()?;
    Ok(vec![
        Block::Words(Text::new(
            "Similar small networks repeat inside the network (\"network in network\"). In each of them, an inception block, the input \
             spreads into several branches and comes together again: filters with different receptive fields look at the same input, and \
             their responses are concatenated. A 1×1 convolution before the 3×3 and the 5×5 reduces the channels first.",
            "비슷한 network가 반복된다. 네트워크 안에 네트워크가 있다고 해서 Network in Network(NIN) 구조라고 한다. 반복되는 단위가 inception block이다. \
             하나의 입력이 여러 갈래로 퍼졌다가 다시 합쳐진다. 하나의 입력을 receptive field가 서로 다른 filter들로 보고, 그 반응들을 concatenate하는 \
             것이다. 3 × 3과 5 × 5 convolution 앞에는 1 × 1 convolution이 들어가 channel을 먼저 줄인다.",
        )),
        Block::Words(Text::with(
            format!("The first block, inception3a of `googlenet_v1`, on {}:", product(&maps(&input), "×")),
            format!("`googlenet_v1`의 첫 block인 inception3a, 입력은 {}:", product(&maps(&input), "×")),
        )),
        Block::Exhibit(table(1, &headings, &branches)),
        Block::Figure(
            Figure::new(Text::new("concatenated", "concatenate한 결과"), joined.output[0], CHANNELS)
                .working(sum.join(" + ")),
        ),
    ])
}

fn bottleneck() -> Result<Vec<Block>> {
    let same = Window::square(3).padding(1);
    let direct = chain([128, 28, 28], &[("conv", conv(128, same))])?;
    let reduced = chain([128, 28, 28], &[("reduce", conv(32, Window::square(1))), ("conv", conv(128, same))])?;
    let (table, axes) = (reduced.table(1), |name: &str| weight_axes(&reduced, name));
    let (first, second) = (layer(&table, "reduce")?.weights, layer(&table, "conv")?.weights);
    let whole = layer(&direct.table(1), "conv")?.weights;
    Ok(vec![
        Block::Words(Text::new(
            "What the 1×1 saves, from 128 to 128 channels; height and width stay as they are:",
            "128 channel을 받아 128 channel을 낼 때 1 × 1 convolution이 얼마나 아끼는지 보자. spatial dimension은 그대로이다.",
        )),
        Block::Figure(weights(&direct, "conv", Text::new("3×3 directly", "3×3을 바로 적용"))?.notes(147_456_u64)),
        Block::Figure(
            weights(&reduced, "reduce", Text::new("1×1 to 32 channels", "1×1로 32 channel로 축소"))?.notes(4_096_u64),
        ),
        Block::Figure(
            weights(&reduced, "conv", Text::new("3×3 back to 128", "3×3으로 다시 128 channel"))?.notes(36_864_u64),
        ),
        Block::Figure(
            Figure::weights(Text::new("both together", "둘을 합하면"), first + second)
                .working(format!("{} + {}", product(&axes("reduce")?, " · "), product(&axes("conv")?, " · ")))
                .notes(40_960_u64)
                .remark(Text::with(
                    format!(
                        "{:.1} times fewer, with the same input and output.",
                        whole as f64 / (first + second) as f64
                    ),
                    format!(
                        "입력과 출력은 같은데 파라미터는 약 {:.1}분의 1이다.",
                        whole as f64 / (first + second) as f64
                    ),
                )),
        ),
    ])
}

/// GoogLeNet < AlexNet < VGGNet, counted.
fn order() -> Result<Vec<Block>> {
    let names = [("GoogLeNet", "googlenet_v1"), ("AlexNet", "alexnet_2012"), ("VGGNet", "vgg16")];
    let tables = names
        .into_iter()
        .map(|(family, name)| Ok((family, named(name)?.table(1))))
        .collect::<Result<Vec<(&str, Table)>>>()?;
    let mut sorted: Vec<(&str, u64)> = tables.iter().map(|(family, table)| (*family, table.total.params)).collect();
    sorted.sort_by_key(|&(_, params)| params);
    let families: Vec<&str> = sorted.iter().map(|&(family, _)| family).collect();
    let rows: Vec<Vec<String>> = tables
        .iter()
        .map(|(family, table)| {
            let counts = [table.features.params, table.classifier.params, table.total.params].map(thousands);
            [[format!("{family} ({})", table.model)].to_vec(), counts.to_vec()].concat()
        })
        .collect();
    let headings = [
        Text::new("network", "신경망"),
        Text::new("features", "feature extraction"),
        Text::new("dense", "dense"),
        Text::new("parameters", "파라미터"),
    ];
    let alexnet = &tables[1].1;
    let first = layer(alexnet, "conv1")?.weights;
    Ok(vec![
        Block::Exhibit(table(1, &headings, &rows)),
        Block::Figure(
            Figure::new(Text::new("order by parameters", "파라미터가 적은 순서"), families.join(" < "), NO_UNIT)
                .notes("GoogLeNet < AlexNet < VGGNet"),
        ),
        Block::Slip(Text::with(
            format!(
                "The notes name three reasons: smaller dense layers, no 11×11 filters, 1×1 convolutions. The dense layers are nearly all \
                 of it: AlexNet's 11×11 filters have {} of its {} weights, and all its convolutions together fewer parameters than \
                 GoogLeNet's.",
                thousands(first),
                thousands(alexnet.total.weights)
            ),
            format!(
                "노트는 세 가지 이유를 든다. Dense layer를 줄인 것, 11 × 11 filter를 쓰지 않은 것, 1 × 1 convolution을 쓴 것이다. 그러나 거의 전부는 \
                 dense layer 덕분이다. AlexNet의 가중치 {}개 가운데 11 × 11 filter의 것은 {}개뿐이고, convolution \
                 부분만 보면 오히려 AlexNet이 GoogLeNet보다 적다.",
                thousands(alexnet.total.weights),
                thousands(first)
            ),
        )),
        Block::Slip(Text::new(
            "The usual `googlenet` of torchvision has a 3×3 where the paper has its 5×5 branch, and batch norm. `googlenet_v1` is the \
             paper's.",
            "흔히 쓰는 torchvision의 `googlenet`은 논문의 5 × 5 갈래 자리에 3 × 3을 쓰고 batch norm도 넣는다. 논문 그대로인 것은 `googlenet_v1`이다.",
        )),
        Block::Try("convnet summary googlenet_v1", Text::new("all nine inception blocks", "inception block 9개 전체")),
        Block::Try(
            "convnet summary googlenet --markdown",
            Text::new("torchvision's form, as a Markdown table", "torchvision 형태를 Markdown 표로"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreeing, computed};
    use super::*;

    #[test]
    fn lecture_l12_one_by_one_saves_weights_and_the_order_holds() {
        let expected = ["147,456", "4,096", "36,864", "40,960", "GoogLeNet < AlexNet < VGGNet"];
        assert_eq!(agreeing(explain()), expected);
        assert_eq!(computed(explain())[0], "256");
    }

    #[test]
    fn lecture_l12_parameters_of_the_three() {
        let count = |name| named(name).unwrap().parameter_count();
        assert_eq!(["googlenet_v1", "alexnet_2012", "vgg16"].map(count), [6_998_552, 60_965_224, 138_357_544]);
    }
}
