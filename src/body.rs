//! Bodies: an app's as it arrives, what is held of one so that it can be sent again, and the end of one that fails.

pub mod budget;
pub mod buffered;
mod collected;
pub mod content_length;
pub mod error;
pub mod linger;
pub mod request_body;
