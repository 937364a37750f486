//! The documents say what the code says, both languages say the same, and every link leads somewhere.
#![allow(clippy::unwrap_used)]

#[path = "docs/form.rs"]
mod form;
#[path = "docs/languages.rs"]
mod languages;
#[path = "docs/names.rs"]
mod names;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/tables.rs"]
mod tables;
