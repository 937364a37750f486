//! Bounds what all accounts together remember: beyond the limit, whoever remembered something first forgets it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError, Weak},
};

/// Something that remembers several things, and can forget the oldest.
pub trait Forgets: Send + Sync {
    /// Forgets the oldest thing, if there is any. What it holds of other things stays.
    fn forget_oldest(&self);
}

/// The limit. It keeps one entry in order for each thing that was remembered, so an owner never has more things than
/// there are entries for it.
pub struct SharedLimit {
    most: usize,
    owners: Mutex<VecDeque<Weak<dyn Forgets>>>,
}

impl SharedLimit {
    /// At most `most` things.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            owners: Mutex::default(),
        }
    }

    /// `owner` remembers one thing more. It must hold no lock that [`Forgets::forget_oldest`] takes.
    pub fn remembered(&self, owner: Weak<dyn Forgets>) {
        let oldest = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            owners.push_back(owner);
            match owners.len() > self.most {
                true => owners.pop_front(),
                false => None,
            }
        };
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.forget_oldest();
        }
    }
}

impl fmt::Debug for SharedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimit")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}
