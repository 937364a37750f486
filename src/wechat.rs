//! What WeChat and WeCom take and say: the two APIs, their endpoints and their error codes.

pub mod api;
pub mod codes;
pub mod endpoint;
pub mod errcode;
