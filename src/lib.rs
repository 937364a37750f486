//! wechat-sidecar: a reverse proxy beside an app that calls WeChat's server API.
//!
//! The app points its base URL at localhost and knows no secret and no token. Each call goes one
//! way, top to bottom (see [`proxy`]): whose call is it and may it pass; its body, held so that it
//! can be sent again; the account's token; the head to send; WeChat's reply, of which a beginning
//! that could be a refusal is read; and on a refusal, one more time with another token.

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from.
pub const COMMIT: &str = env!("SIDECAR_BUILD_COMMIT");

// The floor plan, from the ground up: a module uses only modules of the groups above its own.
// `tests/floors.rs` reads this list and holds the code to it.

// Words.
pub mod api;
pub mod budget;
pub mod clock;
pub mod coalescing_waker;
pub mod connection_error;
pub mod count_guard;
pub mod listen_addr;
pub mod log;
pub mod secret;
pub mod socket;
pub mod suggest;

// Who waits.
pub mod task;

// What the two APIs take and say.
pub mod endpoint;
pub mod errcode;

// Things made of words.
pub mod buffered;
pub mod metrics;
pub mod request_body;
pub mod token;

// The wire.
pub mod upstream;

// Tokens: where they come from, who keeps them, whose they are.
pub mod issuer;

pub mod keeper;

pub mod ticket;

pub mod account;

// Calls.
pub mod proxy;

// Ports.
pub mod server;

pub mod admin;

// Kubernetes.
pub mod inject;

pub mod webhook;

// The whole.
pub mod config;

pub mod app;
pub mod operate;

// What was asked for.
pub mod run;
