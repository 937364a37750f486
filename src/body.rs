//! Bodies: an app's as it comes, and what is kept of one so that it can be sent again.

pub mod budget;
pub mod buffered;
pub mod request_body;
