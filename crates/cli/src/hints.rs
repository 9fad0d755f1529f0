//! What a user of the program can do about an error of the library, which knows of no flags.

use convnet::Error;
use convnet::weights::{Misfit, Problem};

/// What is said behind the message, such as `; choose with --key KEY`, if there is something to say.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    let problem = match error.downcast_ref::<Error>()? {
        Error::Weights { problem, .. } => problem,
        Error::NotDownloaded { set, .. } => return Some(format!(" with --data {set} --download")),
        Error::Diverged { .. } => return Some("; the flag is --lr".into()),
        // Only training refuses pictures together.
        Error::Pictures(_) => return Some("\n--skip-bad leaves them out".into()),
        _ => return None,
    };
    match &**problem {
        Problem::Several { .. } => Some("; choose with --key KEY".into()),
        Problem::NoSuchKey { .. } => Some(" (--key)".into()),
        Problem::UnknownNet { .. } => Some(": name it with --model".into()),
        Problem::Misfit(misfit) => of_misfit(misfit),
        _ => None,
    }
}

fn of_misfit(misfit: &Misfit) -> Option<String> {
    if misfit.only_head && !misfit.missing.is_empty() {
        return Some("; to begin with a head that is not trained there is --ignore-mismatched head".into());
    }
    if misfit.only_head {
        return Some("; for another number of classes there is --ignore-mismatched head".into());
    }
    let is_first =
        |name: &str| ["conv1.", "conv0.", "features.0.", "features.conv0."].iter().any(|first| name.starts_with(first));
    let kernel = misfit.misshaped.iter().find(|m| is_first(&m.name) && m.got.len() == 4 && m.got[1] != m.expected[1]);
    if let (Some(kernel), 1) = (kernel, misfit.misshaped.len()) {
        return Some(format!(
            "; for pictures of {} channels name their size with --input {}xHxW",
            kernel.got[1], kernel.got[1]
        ));
    }
    // Weights of another network: that of the zoo that they look like, or the one that the file describes.
    let own = format!("'{}'", misfit.net);
    if misfit.own.is_some() {
        return Some(" (leave out --model, --net and their settings)".into());
    }
    if let Some(likeness) = misfit.likeness.as_ref().filter(|likeness| !likeness.contains(&own)) {
        let name = likeness.split('\'').nth(1)?;
        return Some(format!("; for their own network there is --model {name}"));
    }
    let extra = misfit.unexpected.first().filter(|_| misfit.missing.is_empty() && misfit.misshaped.is_empty())?;
    let layer = extra.split('.').next().unwrap_or(extra);
    Some(format!("; if the network is the right one, --ignore-mismatched {layer} passes over them"))
}
