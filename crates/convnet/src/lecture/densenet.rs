//! L14: DenseNet, growth and transitions.

use super::figure::{CHANNELS, product};
use super::live::{layer, maps, named, table, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::columns::thousands;

/// Where `densenet121` joins and shrinks its channels.
const STAGES: [(&str, &str, &str); 8] = [
    ("features.pool0", "stem", "stem"),
    ("features.denseblock1.concat6", "dense block 1 (6 layers)", "dense block 1 (layer 6개)"),
    ("features.transition1.pool", "transition 1", "transition 1"),
    ("features.denseblock2.concat12", "dense block 2 (12 layers)", "dense block 2 (layer 12개)"),
    ("features.transition2.pool", "transition 2", "transition 2"),
    ("features.denseblock3.concat24", "dense block 3 (24 layers)", "dense block 3 (layer 24개)"),
    ("features.transition3.pool", "transition 3", "transition 3"),
    ("features.denseblock4.concat16", "dense block 4 (16 layers)", "dense block 4 (layer 16개)"),
];

/// L14.
pub(super) fn explain() -> Result<Vec<Block>> {
    let net = named("densenet121")?;
    let layers = net.table(1);
    let channels = |name: &str| layer(&layers, name).map(|row| row.output[0]);
    let mut blocks = vec![
        Block::Words(Text::new(
            "DenseNet concatenates where ResNet adds: each layer of a dense block sees all maps before it and appends its own, 32 in \
             `densenet121` (the growth rate). So the channels grow, and with them the parameters of whatever looks at them. A transition \
             block after each dense block shrinks them: batch norm, 1×1 convolution to half the channels, 2×2 average pooling. Dense \
             block and transition alternate.",
            "더하지 말고 concatenate를 하자는 것이 DenseNet이다. dense block의 layer는 앞선 feature map을 모두 보고 자기 map을 뒤에 덧붙인다. \
             `densenet121`은 32개씩 붙인다(growth rate). 그러면 channel이 점점 커지고, 그것을 보는 convolution의 파라미터도 커진다. 그래서 중간중간 \
             transition block이 batch norm, 1 × 1 conv, 2 × 2 average pooling으로 channel을 절반으로 줄인다. 늘리고 줄이기를 반복하는 것이다.",
        )),
        Block::Words(Text::new("Read from `densenet121`, at 224×224:", "224×224를 넣은 `densenet121`에서 읽은 값:")),
    ];
    let row = |(name, ..): &(&str, &str, &str)| Ok(layer(&layers, name)?.output.clone());
    let outputs = STAGES.iter().map(row).collect::<Result<Vec<Vec<usize>>>>()?;
    let widest = outputs.iter().map(|output| output[0]).max().unwrap_or(1);
    let lines = |stage: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
        let rows = STAGES.iter().zip(&outputs).map(|(names, output)| {
            let bar = "#".repeat((output[0] * 20).div_ceil(widest));
            vec![stage(names).to_owned(), bar, product(&maps(output), "×")]
        });
        rows.collect::<Vec<_>>()
    };
    let headings = [
        Text::new("after", "위치"),
        Text::new("channels", "channel"),
        Text::new("height × width × channels", "높이 × 너비 × 채널"),
    ];
    let (en, ko) = (table(2, &headings, &lines(|names| names.1)), table(2, &headings, &lines(|names| names.2)));
    blocks.push(Block::Exhibit(Text::with(en.get(super::Lang::En).to_owned(), ko.get(super::Lang::Ko).to_owned())));

    let (stem, block1) = (channels("features.pool0")?, channels("features.denseblock1.concat6")?);
    let growth = channels("features.denseblock1.denselayer1.conv2")?;
    let added: usize = STAGES.iter().filter_map(|(name, ..)| name.rsplit_once("concat")?.1.parse::<usize>().ok()).sum();
    blocks.extend([
        Block::Figure(
            Figure::new(Text::new("after dense block 1", "dense block 1 뒤"), block1, CHANNELS).working(format!("{stem} + 6 · {growth}")),
        ),
        Block::Figure(
            Figure::new(Text::new("after transition 1", "transition 1 뒤"), channels("features.transition1.pool")?, CHANNELS)
                .working(format!("{block1} / 2")),
        ),
        Block::Figure(
            Figure::new(
                Text::new("after all blocks, had nothing shrunk", "한 번도 줄이지 않았다면 마지막에"),
                stem + added * growth,
                CHANNELS,
            )
            .working(format!("{stem} + {added} · {growth}"))
            .remark(Text::with(
                format!("As it is: {}.", thousands(channels("features.denseblock4.concat16")? as u64)),
                format!("실제로는 {}이다.", thousands(channels("features.denseblock4.concat16")? as u64)),
            )),
        ),
        Block::Figure(weights(
            &net,
            "features.denseblock1.denselayer6.conv2",
            Text::new("3×3 of a layer, whatever it sees", "layer마다 있는 3×3 (입력과 무관)"),
        )?.remark(Text::new(
            "A 1×1 to 128 channels stands before it: the bottleneck again, with the very numbers of L12.",
            "앞에 128 channel로 줄이는 1×1이 있기 때문이다. 또 bottleneck이고, L12와 똑같은 숫자가 나온다.",
        ))),
        Block::Slip(Text::with(
            format!(
                "The lecture calls the growth geometric. Within a block it is linear: 32 more per layer. It would be geometric if each layer \
                 gave as many maps as it sees: {} after the six layers of block 1 instead of {block1}.",
                thousands((stem << 6) as u64)
            ),
            format!(
                "강의에서는 channel이 기하급수적으로 커진다고 하지만, block 안에서는 layer마다 32씩 일정하게 늘어난다. 기하급수라면 layer마다 자기가 \
                 본 만큼의 map을 내야 하고, block 1의 layer 6개 뒤에는 {block1}이 아니라 {}이 되었을 것이다.",
                thousands((stem << 6) as u64)
            ),
        )),
        Block::Slip(Text::new(
            "\"Dense layer\" in the notes' last sentence means the dense block, not the fully connected layer of L8 that has the same name.",
            "노트 마지막 문장의 \"Dense layer\"는 dense block을 뜻한다. L8에서 같은 이름으로 부른 fully connected layer가 아니다.",
        )),
        Block::Words(Text::new(
            "To sum up: VGGNet has 3×3 blocks for a wide receptive field, GoogLeNet the 1×1 convolution, ResNet the skip connection, DenseNet \
             concatenation.",
            "정리하면, VGGNet은 receptive field를 늘리는 3 × 3 block, GoogLeNet은 1 × 1 convolution, ResNet은 skip connection, DenseNet은 \
             concatenation이다.",
        )),
        Block::Try("convnet summary densenet121", Text::new("growth and transitions in the summary", "growth와 transition을 summary에서 본다")),
        Block::Try(
            "convnet train --model densenet_bc_100_12 --data cifar-10-batches-bin",
            Text::new("the one for CIFAR-10, trained", "CIFAR-10용 DenseNet을 학습한다"),
        ),
    ]);
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::super::tests::computed;
    use super::*;

    #[test]
    fn lecture_l14_growth_and_transitions() {
        let table = named("densenet121").unwrap().table(1);
        let channels = STAGES.map(|(name, ..)| layer(&table, name).unwrap().output[0]);
        assert_eq!(channels, [64, 256, 128, 512, 256, 1024, 512, 1024]);
        assert_eq!(computed(explain()), ["256", "128", "1,920", "36,864"]);
    }
}
