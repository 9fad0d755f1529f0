//! The network that is asked, pictures that are explained one by one, and the files of what is found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use convnet::classifier::{Classifier, Description};
use convnet::explain::Explainer;
use convnet::predictor::Input;
use convnet::{Error, Result};

use crate::args::{ClassifierArgs, EngineArgs};
use crate::console::Console;
use crate::pictures::{PictureArgs, Unusable, tell_damage};

/// The network that the flags name, and what it does to pictures.
pub(super) fn explainer(
    classifier: &ClassifierArgs,
    pictures: &PictureArgs,
    engine: &EngineArgs,
    console: &Console,
) -> anyhow::Result<(Explainer, Description)> {
    let (Classifier { description, weights }, _) = classifier.load(console)?;
    let description = pictures.apply(description, console)?;
    let classifier = Classifier { description: description.clone(), weights };
    Ok((Explainer::with_engine(classifier, &engine.engine(console)?)?, description))
}

/// The files that are named, and those of folders that are.
pub(super) fn found(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for file in files {
        match file.is_dir() {
            true => found.extend(convnet::data::pictures_in(file)?),
            false => found.push(file.clone()),
        }
    }
    Ok(found)
}

/// The numbers that a network takes for a picture. One that cannot be read is told of, and nothing, where there are others.
pub(super) fn read(
    path: &Path,
    (description, strict): (&Description, bool),
    unusable: Option<&mut Unusable>,
    console: &Console,
) -> Result<Option<Vec<f32>>> {
    match description.prepare_with(Input::path(path), strict) {
        Ok((image, warnings)) => {
            if !warnings.is_empty() {
                tell_damage(console, &path.display().to_string(), &warnings);
            }
            Ok(Some(image))
        }
        Err(error) if error.is_of_a_picture() => match unusable {
            Some(unusable) => {
                unusable.tell(console, &error);
                Ok(None)
            }
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Names for the files of pictures in a folder: that of the picture without its ending, and a number where two are called alike.
#[derive(Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    pub(super) fn of(&mut self, path: &Path) -> String {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !self.taken.contains(name));
        let name = name.unwrap_or(stem);
        self.taken.insert(name.clone());
        name
    }
}

/// Makes the folder of `--out`.
pub(super) fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("making", folder))
}
