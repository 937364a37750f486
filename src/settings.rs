//! The engine of all settings, wherever they come from: the configuration's and those of injected pods.
//!
//! A value is given as text, with its place (`raw`). Values lie in layers, of which the strongest counts
//! (`layers`). Reading one (`parse`) succeeds, or fails with a sentence that names the place and never
//! repeats what may be a secret ([`error`]).

pub mod error;
pub(crate) mod layers;
pub(crate) mod parse;
pub(crate) mod raw;
pub mod suggest;
