//! Carries a trained net over to pictures of one's own, in `photos/<class>/`:
//! `cargo run --release --example fine_tune -- resnet18.safetensors photos tuned.safetensors`.

use convnet::data::{Sizing, Source};
use convnet::prelude::*;
use convnet::train::{Recipe, Trainer};
use convnet::weights::Checkpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, photos, tuned] = &arguments[..] else {
        return Err("expected a file of weights, a folder of classes and where to write".into());
    };
    let base = Classifier::load(None, weights.as_ref())?;
    let splits = Source::parse(photos)?.load(Sizing::to(base.description.target()))?.hold_out(Default::default());
    let (classifier, _) = base.with_classes(splits.train.classes().to_vec(), 0)?;
    let recipe = Recipe { epochs: 10, freeze: vec!["backbone".into()], ..Recipe::default() };
    let outcome = Trainer::new(classifier, splits, recipe)?.fit(&mut ())?;
    println!("{:.1} % of the held out pictures recognised", 100.0 * outcome.progress.best_accuracy);

    let Classifier { description, weights } = outcome.classifier()?;
    Checkpoint { metadata: description.metadata(), weights, ..Checkpoint::default() }.save(tuned.as_ref())?;
    Ok(())
}
