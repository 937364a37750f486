//! The flags of `inject`, `webhook` and `webhook-certs`. They are not keys of the configuration.

use std::{env, fmt::Display, net::SocketAddr, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{flag::flag, operation::Operation};
use crate::{
    config::{
        error::{ConfigError, Provenance},
        keys::Id,
    },
    k8s::{
        inject::{
            Injector, Presets,
            names::{PREFIX, Prefix, object_name},
            offline,
            setting::{self, Setting},
            stream::Direction,
        },
        webhook::{
            self,
            bootstrap::{self, Output},
            cluster,
        },
    },
    net::origin::Origin,
    settings::parse,
};

/// The folder of the service account in every pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The subcommands.
pub(super) fn subcommands() -> [Command; 3] {
    [inject_command(), webhook_command(), certificates_command()]
}

fn inject_command() -> Command {
    Command::new("inject")
        .about(
            "Add a sidecar to the workloads in a stream of Kubernetes objects, without a cluster",
        )
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE")
                .required(true)
                .action(ArgAction::Append)
                .help("A file of YAML or JSON, or - for stdin; repeatable"),
        )
        .arg(
            Arg::new("uninject")
                .long("uninject")
                .action(ArgAction::SetTrue)
                .help("Remove the sidecars instead"),
        )
        .args([set(), prefix_arg()])
        .after_help(settings_help())
}

fn webhook_command() -> Command {
    Command::new("webhook")
        .about("Add sidecars to the pods of a cluster, by answering the AdmissionReviews of its API server")
        .arg(value("listen", "ADDRESS", "0.0.0.0:9443", "The address that the API server connects to: IP:port"))
        .arg(value("tls-cert", "FILE", "", "A PEM file with the certificate; it is read again when it changes").required(true))
        .arg(value("tls-key", "FILE", "", "A PEM file with its key; it is read again when it changes").required(true))
        .args([set(), prefix_arg()])
        .arg(
            Arg::new("namespace-annotations")
                .long("namespace-annotations")
                .action(ArgAction::SetTrue)
                .help("Also read settings from the annotations of a pod's namespace; takes the right to get namespaces"),
        )
        .arg(value("api-server", "URL", "", "The URL of the API server [default: from the environment of the pod]"))
        .arg(value("service-account", "DIR", SERVICE_ACCOUNT, "The folder with the token and the ca.crt for the API server"))
        .arg(value("shutdown-delay", "DURATION", "5s", "When told to stop: how long to go on answering, while not ready"))
        .args([Id::LogFormat, Id::LogLevel].map(|id| flag(id.key())))
        .after_help(settings_help())
}

fn certificates_command() -> Command {
    Command::new("webhook-certs")
        .about("Make a certificate for the webhook, for clusters without cert-manager")
        .arg(value("service", "NAME", "wechat-sidecar-injector", "The name of the webhook's Service"))
        .arg(value("namespace", "NAME", "wechat-sidecar", "The namespace of the Service"))
        .arg(value("secret", "NAME", "wechat-sidecar-injector-tls", "The name of the Secret to make"))
        .arg(value("configuration", "NAME", "wechat-sidecar-injector", "The name of the MutatingWebhookConfiguration that will trust the certificate"))
        .arg(prefix_arg())
        .arg(value("days", "COUNT", "3650", "How many days the certificate is valid"))
        .arg(value("patch-file", "FILE", "", "The file to write the patch to; kubectl patch applies it, so that the API server trusts the certificate"))
        .arg(value("secret-file", "FILE", "", "The file to write the Secret to, for kubectl apply; it holds the private key"))
        .arg(value("old-ca", "FILE", "", "A file with the CA that the API server trusts now, or - for stdin; it goes on trusting that, in addition to the new CA"))
        .arg(value("format", "FORMAT", "manifests", "The output: manifests (the two files) or values (for Helm, on stdout)"))
        .after_help(certificates_help())
}

fn prefix_arg() -> Arg {
    value(
        "prefix",
        "DOMAIN",
        PREFIX,
        "The prefix of labels and annotations",
    )
}

fn value(name: &'static str, placeholder: &'static str, preset: &'static str, help: &str) -> Arg {
    let arg = Arg::new(name).long(name).value_name(placeholder);
    if preset.is_empty() {
        arg.help(help.to_owned())
    } else {
        arg.help(format!("{help} [default: {preset}]"))
            .default_value(preset)
            .hide_default_value(true)
    }
}

fn set() -> Arg {
    Arg::new("set")
        .long("set")
        .value_name("NAME=VALUE")
        .action(ArgAction::Append)
        .help("A default of a setting, for pods that do not set their own; repeatable")
}

fn settings_help() -> String {
    let mut help =
        "Settings, each also an annotation of a pod, behind the prefix and a slash:\n".to_owned();
    for Setting {
        name,
        preset,
        help: what,
        ..
    } in setting::settings()
    {
        let preset = if preset.is_empty() {
            String::new()
        } else {
            format!(" [default: {preset}]")
        };
        help.push_str(&format!("  {name:<20}{what}{preset}\n"));
    }
    help.truncate(help.trim_end().len());
    help
}

fn certificates_help() -> String {
    format!(
        "{}\n\n\
        --old-ca takes the caBundle in place, as PEM or base64. This prints it:\n  \
        kubectl get mutatingwebhookconfiguration NAME -o jsonpath='{{.webhooks[0].clientConfig.caBundle}}'",
        bootstrap::next("NAME", &"PATCH", &"SECRET"),
    )
}

/// The operation of the subcommand `name`.
pub(super) fn operation(name: &str, matches: &ArgMatches) -> Result<Operation, ConfigError> {
    Ok(match name {
        "inject" => Operation::Inject(offline::Options {
            files: texts(matches, "file"),
            direction: match matches.get_flag("uninject") {
                true => Direction::Out,
                false => Direction::In,
            },
            injector: injector(matches)?,
        }),
        "webhook" => Operation::Webhook(Box::new(webhook(matches)?)),
        _ => Operation::WebhookCerts(certificates(matches)?),
    })
}

fn injector(matches: &ArgMatches) -> Result<Injector, ConfigError> {
    let set = texts(matches, "set");
    let presets = Presets::parse(set.iter().map(String::as_str));
    Ok(Injector {
        prefix: prefix(matches)?,
        presets: presets
            .map_err(|error| ConfigError::new(Provenance::Flag("set"), error.to_string()))?,
        cluster: None,
    })
}

fn prefix(matches: &ArgMatches) -> Result<Prefix, ConfigError> {
    read(matches, "prefix", Prefix::parse)
}

fn webhook(matches: &ArgMatches) -> Result<webhook::Options, ConfigError> {
    let address = |text: &str| {
        let address = text.parse::<SocketAddr>();
        address.map_err(|_| "is not an IP address and a port".to_owned())
    };
    Ok(webhook::Options {
        listen: read(matches, "listen", address)?,
        certificate: PathBuf::from(text(matches, "tls-cert")),
        key: PathBuf::from(text(matches, "tls-key")),
        injector: injector(matches)?,
        cluster: cluster::Options {
            server: server(matches)?,
            service_account: PathBuf::from(text(matches, "service-account")),
        },
        namespaces: matches.get_flag("namespace-annotations"),
        shutdown_delay: read(matches, "shutdown-delay", parse::pause)?,
    })
}

/// The API server as the flag has it, or as Kubernetes tells every pod.
fn server(matches: &ArgMatches) -> Result<Option<Origin>, ConfigError> {
    let origin = |text: &str| Origin::parse(text).map_err(|error| format!("is refused: {error}"));
    if !text(matches, "api-server").is_empty() {
        return read(matches, "api-server", origin).map(Some);
    }
    let told = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let Some(host) = told("KUBERNETES_SERVICE_HOST") else {
        return Ok(None);
    };
    let port = told("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let place = || Provenance::Variable("KUBERNETES_SERVICE_HOST".to_owned());
    let origin = origin(&format!("https://{host}:{port}"));
    origin
        .map(Some)
        .map_err(|problem| ConfigError::new(place(), format!("the value {problem}")))
}

fn certificates(matches: &ArgMatches) -> Result<bootstrap::Options, ConfigError> {
    let name = |flag| read(matches, flag, object_name);
    let configuration = name("configuration")?;
    let old_ca = text(matches, "old-ca");
    Ok(bootstrap::Options {
        service: name("service")?,
        namespace: name("namespace")?,
        secret: name("secret")?,
        prefix: prefix(matches)?,
        days: read(matches, "days", parse::count(36_500))?,
        old_ca: (!old_ca.is_empty()).then(|| old_ca.to_owned()),
        output: output(matches, &configuration)?,
        configuration,
    })
}

/// Each file has its own flag, and nothing is printed, so the Secret cannot be piped to the wrong command.
fn output(matches: &ArgMatches, configuration: &str) -> Result<Output, ConfigError> {
    let wrong = |flag, problem: &str| Err(ConfigError::new(Provenance::Flag(flag), problem));
    let files = ["patch-file", "secret-file"].map(|flag| (flag, text(matches, flag)));
    match text(matches, "format") {
        "manifests" => {
            if let Some((flag, _)) = files.iter().find(|(_, path)| path.is_empty()) {
                let next = bootstrap::next(configuration, &"PATCH", &"SECRET");
                let problem = "it must be set; a patch and a Secret are written, to --patch-file and --secret-file";
                return wrong(flag, &format!("{problem}. {next}"));
            }
            let [(_, patch), (flag, secret)] = files;
            if patch == secret {
                return wrong(flag, "it must be another file than --patch-file");
            }
            Ok(Output::Files {
                secret: PathBuf::from(secret),
                patch: PathBuf::from(patch),
            })
        }
        "values" => match files.iter().find(|(_, path)| !path.is_empty()) {
            Some((flag, _)) => wrong(flag, "--format values prints all of it on stdout"),
            None => Ok(Output::Values),
        },
        _ => wrong("format", "the value is neither manifests nor values"),
    }
}

fn text<'a>(matches: &'a ArgMatches, flag: &str) -> &'a str {
    matches.get_one::<String>(flag).map_or("", String::as_str)
}

fn texts(matches: &ArgMatches, flag: &str) -> Vec<String> {
    let texts = matches.get_many::<String>(flag);
    texts.into_iter().flatten().cloned().collect()
}

/// Parses the value of a flag. The error of `read` is a phrase about the value.
fn read<T, E: Display>(
    matches: &ArgMatches,
    flag: &'static str,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<T, ConfigError> {
    read(text(matches, flag))
        .map_err(|problem| ConfigError::new(Provenance::Flag(flag), format!("the value {problem}")))
}
