//! What was asked for on the command line, done to its exit code.
//!
//! Here rather than in `main.rs`, since the crate that polls a future is compiled with all of it: there,
//! every async function that runs would be in the binary twice.

mod admin_client;
pub mod args;
pub mod ca;
pub mod call;
pub mod check;
pub mod explain;
#[cfg(feature = "fake")]
pub mod fake;
mod flag;
mod hidden;
mod k8s_args;
pub mod manual;
pub mod operation;
pub mod output;
mod probe;
pub mod process;
pub mod quota;
mod revoke;
pub mod rid;

use std::{io, net::SocketAddr, process::ExitCode};

use tokio::task::spawn_blocking;

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
use process::Process;

/// Executes the command.
///
/// # Errors
/// If the configuration is wrong.
pub fn run(invocation: Invocation, mut process: Process) -> Result<ExitCode, ConfigError> {
    // This fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Invocation { operation, flags } = invocation;
    let code = match operation {
        Operation::Serve => serve(flags, &mut process)?,
        Operation::Check(options) => {
            let loaded = Sources::of_process(flags).and_then(|sources| Config::load(&sources));
            if let (Err(error), true) = (&loaded, options.json) {
                check::refuse(error);
            }
            process.block_on(check::check(&loaded?, options))
        }
        Operation::Call(options) => {
            let sources = Sources::of_process(flags)?;
            process.block_on(call::call(*options, sources))?
        }
        Operation::Quota(options) => {
            let sources = Sources::of_process(flags)?;
            process.block_on(quota::quota(options, sources))?
        }
        Operation::Rid(options) => {
            let sources = Sources::of_process(flags)?;
            process.block_on(rid::rid(options, sources))?
        }
        Operation::Health => process.block_on(probe::health(admin_port(flags)?)),
        Operation::Wait { until, timeout } => {
            process.block_on(probe::wait(admin_port(flags)?, until, timeout))
        }
        Operation::Revoke(options) => {
            process.block_on(revoke::revoke(options, admin_port(flags)?))?
        }
        Operation::Shutdown => process.block_on(probe::shutdown(admin_port(flags)?)),
        Operation::Ca(output) => ca::ca(output, &Sources::of_process_lossy(flags))?,
        Operation::Explain(options) => explain::explain(&options),
        #[cfg(feature = "fake")]
        Operation::Fake(options) => match process.signals() {
            Ok(signals) => process.block_on(fake::serve(*options, signals))?,
            Err(error) => no_signals(&error),
        },
        Operation::Completions(shell) => manual::completions(args::shown(), shell),
        Operation::Man(pages) => manual::man(args::shown(), &pages),
        Operation::Inject(options) => offline::inject(&options),
        Operation::Webhook(options) => {
            let lines = Config::log(&Sources::of_process(flags)?)?;
            webhook(*options, lines, &mut process)
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
    };
    process.end();
    Ok(code)
}

/// The address of the admin port of the sidecar to ask.
fn admin_port(flags: Vec<(Id, Vec<String>)>) -> Result<SocketAddr, ConfigError> {
    let AdminPort { address, doubt } = AdminPort::find(&Sources::of_process_lossy(flags))?;
    if let Some(doubt) = doubt {
        eprint(&doubt);
    }
    Ok(address)
}

fn serve(flags: Vec<(Id, Vec<String>)>, process: &mut Process) -> Result<ExitCode, ConfigError> {
    let mut signals = match process.signals() {
        Ok(signals) => signals,
        Err(error) => return Ok(no_signals(&error)),
    };
    let loaded = process.block_on(async {
        // A file on a network that hangs does not keep a signal from ending the process.
        let loading = spawn_blocking(|| Config::load(&Sources::of_process(flags)?));
        tokio::select! {
            loaded = loading => loaded.ok(),
            () = signals.stop.recv() => None,
        }
    });
    let Some(config) = loaded.transpose()? else {
        eprint("ended before anything was served");
        return Ok(ExitCode::SUCCESS);
    };
    Ok(with_log(config.log.clone(), |log| {
        app::say_start(&config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        process.block_on(app::serve(config, log, signals))
    }))
}

fn webhook(options: webhook::Options, lines: log::Options, process: &mut Process) -> ExitCode {
    match process.signals() {
        Ok(signals) => with_log(lines, |log| {
            process.block_on(webhook::serve(options, log, signals))
        }),
        Err(error) => no_signals(&error),
    }
}

fn no_signals(error: &io::Error) -> ExitCode {
    failed(&format!("signals cannot be handled: {error}"))
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

fn failed(problem: &str) -> ExitCode {
    eprint(problem);
    ExitCode::FAILURE
}
