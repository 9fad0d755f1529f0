//! Help after a mistyped name.

/// Most names that are listed.
const LISTED: usize = 40;
/// Longest name that is compared with others, in bytes.
const LONGEST: usize = 64;

/// "did you mean 'x'?" for the nearest known name, or the list of all when none is near.
pub(crate) fn suggest<'a>(mistyped: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match nearest(mistyped, names.iter().copied()) {
        Some(name) => format!("did you mean '{name}'?"),
        None if names.is_empty() => "there is none".into(),
        None if names.len() > LISTED => format!("known are {}, …", names[..LISTED].join(", ")),
        None => format!("known are {}", names.join(", ")),
    }
}

/// What follows a message about a mistyped name: ": did you mean 'x'?", or nothing when no name is near.
pub(crate) fn hint<'a>(mistyped: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(mistyped, names).map(|name| format!(": did you mean '{name}'?")).unwrap_or_default()
}

/// The nearest of `names` when it is near enough to have been meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(mistyped: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is quadratic in the lengths; nothing this long is a slip of the finger.
    if mistyped.len() > LONGEST {
        return None;
    }
    let (edits, name) = names.into_iter().map(|name| (distance(mistyped, name), name)).min()?;
    (edits <= name.len().max(3) / 3).then_some(name)
}

/// Edits that turn one name into the other; capitals, dashes and underscores do not count.
fn distance(a: &str, b: &str) -> usize {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    strsim::damerau_levenshtein(&plain(a), &plain(b))
}

#[cfg(test)]
mod tests {
    use super::{nearest, suggest};

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        let names = ["conv2d", "max_pool2d", "relu"];
        assert_eq!(suggest("con2vd", names), "did you mean 'conv2d'?");
        assert_eq!(suggest("MaxPool2d", names), "did you mean 'max_pool2d'?");
        assert_eq!(suggest("attention", names), "known are conv2d, max_pool2d, relu");
        assert_eq!(suggest(&"x".repeat(1_000_000), names), "known are conv2d, max_pool2d, relu");
        assert_eq!(nearest("x", []), None);
    }
}
