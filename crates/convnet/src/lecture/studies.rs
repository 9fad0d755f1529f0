//! The studies of a row: the commands, and the results that come with the library, where there are any.

use super::{Block, EXHIBIT_WIDTH, Text};
use crate::Result;
use crate::columns::{Style, thousands, width};
use crate::study::{Quantity, Record, STUDIES, Study, recorded};

/// The command of a study, and what it does.
type Command = (&'static str, &'static str, Text);

#[rustfmt::skip]
static COMMANDS: [Command; 9] = [
    ("activation", "convnet study activation", Text::new("gradients by layer with ReLU, tanh and sigmoid", "ReLU, tanh, sigmoid일 때 layer별 gradient 크기")),
    ("pooling", "convnet study pooling --data cifar-10-batches-bin --seeds 5", Text::new("overlapping pooling or not", "overlapping pooling을 하거나 하지 않거나")),
    ("regularisation", "convnet study regularisation", Text::new("dropout, augmentation, both, neither", "dropout과 data augmentation을 각각, 함께, 또는 모두 없이")),
    ("kernels", "convnet study kernels", Text::new("two 3×3 and one 5×5: parameters, time, accuracy", "3×3 두 번과 5×5 한 번의 파라미터, 시간, 정확도")),
    ("batchnorm", "convnet study batchnorm", Text::new("with batch norm and without, at three learning rates", "세 가지 learning rate에서 batch norm이 있을 때와 없을 때")),
    ("depth", "convnet study depth --data cifar-10-batches-bin", Text::new("the notes' figure: training and test error of the four nets", "노트의 그래프: 네 신경망의 training error와 test error")),
    ("shortcut", "convnet study shortcut --data cifar-10-batches-bin", Text::new("simple and projected shortcuts: options A, B and C", "simple shortcut과 projected shortcut: 논문의 A, B, C")),
    ("bottleneck", "convnet study bottleneck --data cifar-10-batches-bin", Text::new("bottlenecks against two 3×3 at similar multiply-adds", "계산량이 비슷한 bottleneck과 3×3 두 번의 비교")),
    ("growth", "convnet study growth", Text::new("DenseNet with k = 4, 8 and 12", "k가 4, 8, 12인 DenseNet")),
];

/// A row's blocks with what was measured of its studies before the commands to try, and the studies' commands after them.
pub(super) fn added(row: &str, mut blocks: Vec<Block>) -> Result<Vec<Block>> {
    let commands = blocks.iter().rev().take_while(|block| matches!(block, Block::Try(..))).count();
    let tries = blocks.split_off(blocks.len() - commands);
    let studies = || STUDIES.iter().filter(|study| study.rows.contains(&row));
    for study in studies() {
        if let Some(record) = recorded(study)? {
            blocks.extend(of(study, &record)?);
        }
    }
    blocks.extend(tries);
    blocks.extend(studies().filter_map(command));
    Ok(blocks)
}

fn command(study: &Study) -> Option<Block> {
    let known = COMMANDS.iter().find(|command| command.0 == study.name);
    known.map(|(_, command, what)| Block::Try(command, what.clone()))
}

fn of(study: &Study, record: &Record) -> Result<[Block; 2]> {
    let verdicts = record.verdicts()?;
    let comparisons: usize = verdicts.iter().map(|verdict| verdict.of).sum();
    let seen: usize = verdicts.iter().map(|verdict| verdict.seen).sum();
    let Record { machine, date, .. } = record;
    let [train, held_out] = record.pictures.map(|count| thousands(count as u64));
    let command = record.command();
    let words = Text::with(
        format!(
            "Measured with `{command}`: {train} training pictures, {held_out} held out, {} epochs, seeds: {} ({machine}, {date}). Of \
             {comparisons} comparisons {seen} came out as the notes and the papers say:",
            record.epochs, record.seeds,
        ),
        format!(
            "`{command}`로 잰 결과이다. 학습 이미지 {train}장, 평가 이미지 {held_out}장, {} epoch, seed {}개({machine}, {date}). 노트와 논문이 \
             말하는 비교 {comparisons}가지 중 {seen}가지가 그대로 나타났다.",
            record.epochs, record.seeds,
        ),
    );
    // Parameters and multiply-adds are the row's own figures where they do not fit.
    let all = study.columns();
    let few: Vec<Quantity> =
        all.iter().copied().filter(|q| !matches!(q, Quantity::Parameters | Quantity::Macs)).collect();
    let whole = record.table_of(all, Style::Plain);
    let fits = whole.lines().all(|line| width(line) <= EXHIBIT_WIDTH);
    let table = if fits { whole } else { record.table_of(&few, Style::Plain) };
    Ok([Block::Words(words), Block::Exhibit(Text::same(table))])
}

#[cfg(test)]
mod tests {
    use super::super::{Lang, select};
    use super::*;

    #[test]
    fn every_study_has_its_command_in_its_rows() {
        for study in &STUDIES {
            let Some(Block::Try(command, _)) = command(study) else { panic!("{}", study.name) };
            assert!(command.starts_with(&format!("convnet study {}", study.name)), "{command}");
            for row in select(study.rows).unwrap() {
                let blocks = row.explain().unwrap();
                let shown = blocks.iter().any(|block| matches!(block, Block::Try(known, _) if *known == command));
                assert!(shown, "{}: {command}", row.id());
                let words = format!("Measured with `convnet study {}", study.name);
                let told = |block: &Block| matches!(block, Block::Words(text) if text.get(Lang::En).contains(&words));
                assert_eq!(blocks.iter().any(told), recorded(study).unwrap().is_some(), "{}: {}", row.id(), study.name);
            }
        }
    }
}
