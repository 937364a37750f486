//! Suggests the name that a misspelled one probably stands for.

use std::fmt::Display;

/// The one of `names` that `typed` is probably a misspelling of.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .map(|name| (strsim::levenshtein(name, typed), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + typed.len() / 5).then_some(name)
}

/// Adds to `problem` the name that was probably meant.
pub(crate) fn did_you_mean(problem: impl Display, name: impl Display) -> String {
    format!("{problem}; did you mean {name}?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_recognised_and_another_word_is_not() {
        let near = |typed| nearest(typed, ["listen", "replay-limit"].into_iter());
        assert_eq!(near("lisen"), Some("listen"));
        assert_eq!(near("replay-limits"), Some("replay-limit"));
        assert_eq!((near("secret"), near("")), (None, None));
    }
}
