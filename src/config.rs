//! Flags, environment and file, checked, as the options of everyone above.
