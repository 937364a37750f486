//! What somebody may have meant who misspelled a name.

/// The one of `names` that `typed` may be a misspelling of.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .map(|name| (distance(name, typed), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + typed.len() / 5).then_some(name)
}

/// How many letters to add, drop or change to make `a` of `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "ab"), distance("a", "a")), (2, 0));
    }
}
