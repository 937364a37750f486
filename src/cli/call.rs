//! `call`: one call to WeChat's API, with the credentials that the sidecar puts in, and its reply for a person or a pipe.
//!
//! It goes through the sidecar that runs beside it, or, where none does, through the same engine in this process.

mod body;
mod command;
mod engine;
mod field;
mod input;
mod multipart;
mod pretty;
mod progress;
mod question;
mod reply;
mod request;
mod route;
mod target;

use std::process::ExitCode;

use tokio::time::timeout;

pub use command::{CallOptions, CallUsageError};
pub(super) use command::{account, account_argument, command, options};
pub(super) use question::{QuestionError, Questions};

use super::{failed, output::eprint};
use crate::config::{ConfigError, Sources};
use route::{Route, RouteError};

/// Makes the call. The exit code is 0 if WeChat answered without an error.
///
/// # Errors
/// If the configuration is wrong.
pub(super) async fn call(options: CallOptions, sources: Sources) -> Result<ExitCode, ConfigError> {
    let route = match Route::find(&options, sources).await {
        Ok(route) => route,
        Err(RouteError::Config(error)) => return Err(error),
        Err(error) => return Ok(failed(&format!("call: {error}"))),
    };
    if options.verbose {
        eprint(&route.to_string());
    }
    let limit = options.timeout;
    let exchange = exchange(options, &route);
    let result = match limit {
        None => exchange.await,
        Some(limit) => match timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let problem = format!(
                    "call: not done after {limit:?} (--timeout); WeChat may have acted on the call"
                );
                return Ok(failed(&problem));
            }
        },
    };
    Ok(match result {
        Ok(code) => code,
        Err(error) => failed(&format!("call: {error}")),
    })
}

async fn exchange(options: CallOptions, route: &Route) -> Result<ExitCode, request::ExchangeError> {
    let output = options.output.clone();
    let (shows_head, verbose) = (options.head, options.verbose);
    let reply = request::send(options, route).await?;
    Ok(reply::print_reply(reply, output, shows_head, verbose).await?)
}
