//! The endpoints that a problem concerns most.

/// How many are kept.
const MOST: usize = 4;

/// The endpoints with the most occurrences, in bounded memory: a new one takes the place of that with the fewest, and
/// its count (the space-saving algorithm).
#[derive(Clone, Debug, Default)]
pub(super) struct BusiestEndpoints(Vec<(&'static str, u64)>);

impl BusiestEndpoints {
    pub(super) fn add(&mut self, endpoint: &'static str) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == endpoint) {
            *count += 1;
        } else if self.0.len() < MOST {
            self.0.push((endpoint, 1));
        } else if let Some(fewest) = self.0.iter_mut().min_by_key(|(_, count)| *count) {
            *fewest = (endpoint, fewest.1 + 1);
        }
    }

    pub(super) fn has(&self, endpoint: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == endpoint)
    }

    /// Their names, the busiest first.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut all = self.0.clone();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all.into_iter().map(|(endpoint, _)| endpoint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_kept_and_the_busiest_is_among_them() {
        let mut busiest = BusiestEndpoints::default();
        let rare: Vec<&'static str> = (0..100).map(|at| &*format!("/rare/{at}").leak()).collect();
        for endpoint in rare {
            busiest.add("/often");
            busiest.add(endpoint);
        }
        let names = busiest.names();
        assert_eq!((names.len(), names[0]), (MOST, "/often"));
        assert!(busiest.has("/often") && !busiest.has("/rare/0"));
    }
}
