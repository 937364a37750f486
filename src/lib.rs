//! wechat-sidecar: a reverse proxy beside an app that calls WeChat's server API.
//!
//! The app points its base URL at localhost and knows no secret and no token. A call goes one way, top to
//! bottom (see [`proxy`]): its account is selected and the guard lets it pass; its body is buffered, so that it
//! can be sent again; the account's token and the call's head become the head to send; the beginning of WeChat's
//! reply is read where it may be a refusal; and a refused call is replayed once, with another token.

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from.
pub const COMMIT: &str = env!("SIDECAR_BUILD_COMMIT");

// The floor plan, from the ground up: a module uses only modules of the groups above its own.
// `tests/floors.rs` reads this list and holds the code to it.

// What systems have each in its own way.
pub mod os;

// The ground.
pub mod lang;
pub mod log;
pub mod rt;
pub mod secret;
pub mod settings;
pub mod shared_limit;
pub mod sparse;

// What is told of each call.
pub mod record;

// What the two APIs take and say.
pub mod wechat;

// What is wrong now.
pub mod problems;

// Counters, and the page that shows them.
pub mod metrics;

// Connections, bodies, and the client that sends one in the other.
pub mod net;

pub mod body;

pub mod client;

// The local CA, which apps trust that call WeChat by https.
pub mod ca;

// Where the spans of calls go.
pub mod traces;

// Tokens: where they come from, and who keeps them.
pub mod token;

// Whose they are.
pub mod account;

// Calls.
pub mod proxy;

// Ports.
pub mod server;

pub mod http_host;

pub mod admin;

// Kubernetes.
pub mod k8s;

// The whole.
pub mod config;

pub mod app;

// A WeChat for tests.
#[cfg(feature = "fake")]
pub mod fake;

// The command line.
pub mod cli;
