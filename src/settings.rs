//! What all settings share, wherever they come from.

pub mod suggest;
