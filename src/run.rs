//! What was asked for on the command line, done to its exit code.
//!
//! Here rather than in `main.rs`, since the crate that polls a future is compiled with all of it: there,
//! every async function that runs would be in the binary twice.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tokio::runtime;

use crate::{
    app,
    config::{
        Config, ConfigError, Sources,
        command::{Invocation, Operation},
    },
    inject::offline,
    log, operate,
    webhook::{self, bootstrap},
};

/// Does what was asked for.
///
/// # Errors
/// If the configuration is wrong.
pub fn run(invocation: Invocation) -> Result<ExitCode, ConfigError> {
    // The only one there is: an error would say that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sources = Sources::of_process(invocation.flags)?;
    let operation = invocation.operation;
    Ok(match operation {
        Operation::Serve => serve(Config::load(&sources)?),
        Operation::Check { mint } => {
            let config = Config::load(&sources)?;
            block_on(operate::check::check(&config, mint))
        }
        Operation::Health => block_on(operate::health(Config::admin(&sources)?)),
        Operation::Wait { until, timeout } => {
            block_on(operate::wait(Config::admin(&sources)?, until, timeout))
        }
        Operation::Shutdown => block_on(operate::shutdown(Config::admin(&sources)?)),
        Operation::Inject(options) => offline::inject(&options),
        Operation::Webhook(options) => webhook(*options, Config::log(&sources)?),
        Operation::WebhookCerts(options) => match bootstrap::certificates(&options) {
            Ok(done) => {
                if !done.stderr.is_empty() {
                    complain(&done.stderr);
                }
                said(&done.stdout)
            }
            Err(problem) => failed(&problem),
        },
    })
}

fn serve(config: Config) -> ExitCode {
    let (log, levels) = log::log(config.log.clone());
    if let Err(error) = tracing::subscriber::set_global_default(log) {
        return failed(&format!("the log does not start: {error}"));
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    block_on(app::serve(config, levels))
}

fn webhook(options: webhook::Options, lines: log::Options) -> ExitCode {
    let (log, _) = log::log(lines);
    if let Err(error) = tracing::subscriber::set_global_default(log) {
        return failed(&format!("the log does not start: {error}"));
    }
    block_on(webhook::serve(options))
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A file on a network that hangs does not keep the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => failed(&format!("the runtime does not start: {error}")),
    }
}

/// Prints a text for somebody who may apply it: half of it is a failure.
pub fn said(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("stdout: {error}")),
    }
}

fn failed(problem: &str) -> ExitCode {
    complain(problem);
    ExitCode::FAILURE
}

/// Says `problem` on stderr.
pub fn complain(problem: &str) {
    let _ = writeln!(io::stderr(), "wechat-sidecar: {problem}");
}
