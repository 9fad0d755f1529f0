//! "Did you mean …?" for a mistyped name.

/// The one of `known` that is nearest to `name`, when it is near enough to be what was meant: at most a third of its
/// letters differ, counting a swap of neighbours as one. Upper and lower case count as equal.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The words that [`suggest`] adds to a message: `" (did you mean 'mnist'?)"`, or nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest(name, known).map(|candidate| format!(" (did you mean '{candidate}'?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["digits", "mnist"];
        assert_eq!(suggest("mnits", known), Some("mnist"));
        assert_eq!(suggest("MNIST", known), Some("mnist"));
        assert_eq!(suggest("digit", known), Some("digits"));
        assert_eq!(suggest("imagenet", known), None);
        assert_eq!(did_you_mean("digts", known), " (did you mean 'digits'?)");
        assert_eq!(did_you_mean("x", known), "");
    }
}
