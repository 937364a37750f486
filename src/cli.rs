//! What was asked for on the command line, done to its exit code.
//!
//! Here rather than in `main.rs`, since the crate that polls a future is compiled with all of it: there,
//! every async function that runs would be in the binary twice.

mod admin_client;
pub mod args;
mod check;
mod flag;
mod k8s_args;
pub mod operation;
pub mod output;
mod probe;

use std::{net::SocketAddr, process::ExitCode};

use tokio::runtime;

use crate::{
    app,
    config::{AdminPort, Config, ConfigError, Sources, keys::Id},
    k8s::{
        inject::offline,
        webhook::{self, bootstrap},
    },
    log::{self, Log},
};
use args::Invocation;
use operation::Operation;
use output::{eprint, print};

/// Executes the command.
///
/// # Errors
/// If the configuration is wrong.
pub fn run(invocation: Invocation) -> Result<ExitCode, ConfigError> {
    // This fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Invocation { operation, flags } = invocation;
    Ok(match operation {
        Operation::Serve => serve(Config::load(&Sources::of_process(flags)?)?),
        Operation::Check { mint } => {
            let config = Config::load(&Sources::of_process(flags)?)?;
            block_on(check::check(&config, mint))
        }
        Operation::Health => block_on(probe::health(admin_port(flags)?)),
        Operation::Wait { until, timeout } => {
            block_on(probe::wait(admin_port(flags)?, until, timeout))
        }
        Operation::Shutdown => block_on(probe::shutdown(admin_port(flags)?)),
        Operation::Inject(options) => offline::inject(&options),
        Operation::Webhook(options) => {
            webhook(*options, Config::log(&Sources::of_process(flags)?)?)
        }
        Operation::WebhookCerts(options) => match bootstrap::certificates(&options) {
            Ok(done) => {
                if !done.stderr.is_empty() {
                    eprint(&done.stderr);
                }
                print(&done.stdout)
            }
            Err(error) => failed(&error.to_string()),
        },
    })
}

/// The address of the admin port of the sidecar to ask.
fn admin_port(flags: Vec<(Id, Vec<String>)>) -> Result<SocketAddr, ConfigError> {
    let AdminPort { address, doubt } = AdminPort::find(&Sources::of_process_lossy(flags))?;
    if let Some(doubt) = doubt {
        eprint(&doubt);
    }
    Ok(address)
}

fn serve(config: Config) -> ExitCode {
    with_log(config.log.clone(), |log| {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        block_on(app::serve(config, log))
    })
}

fn webhook(options: webhook::Options, lines: log::Options) -> ExitCode {
    with_log(lines, |log| block_on(webhook::serve(options, log)))
}

/// Runs `work` with the log installed, and then writes its last lines.
fn with_log(options: log::Options, work: impl FnOnce(Log) -> ExitCode) -> ExitCode {
    match Log::install(options) {
        Ok(log) => {
            let code = work(log.clone());
            log.flush();
            code
        }
        Err(error) => failed(&format!("the log does not start: {error}")),
    }
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A read of a file on a network that hangs does not keep the process from ending.
            runtime.shutdown_background();
            code
        }
        Err(error) => failed(&format!("the runtime does not start: {error}")),
    }
}

fn failed(problem: &str) -> ExitCode {
    eprint(problem);
    ExitCode::FAILURE
}
