//! What WeChat and WeCom take and say: the two APIs, their hosts, their endpoints and their error codes.

pub mod api;
pub mod codes;
pub mod endpoint;
pub mod errcode;
pub mod hosts;
