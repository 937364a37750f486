//! Why the webhook, or the command that makes its certificate, cannot go on.

use std::{io, path::PathBuf};

use tokio::time::Duration;

use crate::{client::api, k8s::inject::yaml::YamlError};

/// Why the webhook cannot start, or ends without having drained.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The port cannot be opened.
    #[error("--listen: {address}: {error}")]
    Listen {
        /// The address of the port.
        address: std::net::SocketAddr,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// The address or the signals of the process cannot be read.
    #[error("{0}")]
    System(#[source] io::Error),
    /// The task that serves ended in a panic.
    #[error("{0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// A second signal came while the webhook drained.
    #[error("a second signal: ending at once")]
    SecondSignal,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// A file cannot be read.
    #[error("{flag}: {}: {error}", path.display())]
    Read {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// The file of the certificate is not PEM.
    #[error("--tls-cert: the file is not PEM")]
    NotPem,
    /// The file of the certificate is PEM of something else.
    #[error("--tls-cert: the file holds no certificate")]
    NoCertificate,
    /// The file of the key holds none.
    #[error("--tls-key: the file holds no private key in PEM")]
    NoKey,
    /// The key is another certificate's, or of a kind that is not supported.
    #[error("--tls-key: the key does not fit --tls-cert: {0}")]
    Mismatch(#[source] rustls::Error),
}

/// Why the cluster's API server gives no answer. It never holds the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// The process does not run in a cluster.
    #[error("there is no API server: KUBERNETES_SERVICE_HOST is not set")]
    NoServer,
    /// The API server did not answer in time.
    #[error("no answer from the API server within {0:?}")]
    TimedOut(Duration),
    /// There is no client for it.
    #[error("the API server cannot be asked: {0}")]
    Client(#[source] api::ClientError),
    /// The request failed.
    #[error("the API server cannot be asked: {0}")]
    Request(#[source] api::Error),
    /// The reply ended early or is too long.
    #[error("the API server's answer broke off")]
    BrokeOff,
    /// The API server refused the request.
    #[error("the API server answered {path} with HTTP status {status}")]
    Status {
        /// The path of the request.
        path: String,
        /// The status of the reply.
        status: http::StatusCode,
    },
    /// The reply is not JSON.
    #[error("the API server's answer is no JSON")]
    NotJson,
    /// The reply to `/version` has none.
    #[error("/version has no version")]
    NoVersion,
    /// The file with the cluster's root cannot be read.
    #[error("{}: {error}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// The file with the cluster's root has no certificate.
    #[error("{}: it holds no certificate", .0.display())]
    EmptyRoot(PathBuf),
    /// The service account's token cannot be a header.
    #[error("the service account's token is none")]
    Token,
    /// The file with the service account's token cannot be read.
    #[error("the service account's token cannot be read: {0}")]
    TokenFile(#[source] io::Error),
    /// The review's namespace has no valid name.
    #[error("the review's namespace is no name of one")]
    NamespaceName,
    /// The Namespace object cannot be read.
    #[error(
        "the annotations of the namespace {name} cannot be read (--namespace-annotations): {error}"
    )]
    Namespace {
        /// Its name.
        name: String,
        /// The reason.
        #[source]
        error: Box<Self>,
    },
}

/// Why a request is no review.
#[derive(Debug, thiserror::Error)]
pub(super) enum MalformedReview {
    /// It has so many values that it would take too much memory.
    #[error("the body has more than {0} values")]
    TooManyValues(usize),
    /// It is not JSON, or not of this shape.
    #[error("the body is no AdmissionReview in JSON: line {line}, column {column}")]
    NotJson {
        /// Where it goes wrong.
        line: usize,
        /// Where it goes wrong.
        column: usize,
    },
    /// It is of another kind or version.
    #[error("the body is no AdmissionReview of {0}")]
    Kind(&'static str),
    /// It is a review without a request.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// The body stopped or broke off.
    #[error("the body did not arrive")]
    NoBody,
    /// The body is larger than any pod.
    #[error("the body is larger than 6 MiB")]
    TooLarge,
    /// All reviews together have more bytes than are held.
    #[error("too many reviews at once")]
    TooMany,
    /// The Content-Type is another one.
    #[error("the Content-Type is not application/json")]
    ContentType,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Make(#[source] rcgen::Error),
    /// The file with the old CA cannot be read.
    #[error("--old-ca: {file}: {error}")]
    OldCa {
        /// The file, or `-`.
        file: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// The file with the old CA holds something else.
    #[error("--old-ca: {file}: {error}")]
    OldBundle {
        /// The file, or `-`.
        file: String,
        /// The reason.
        #[source]
        error: BundleError,
    },
    /// A file cannot be written.
    #[error("{flag}: {}: {error}", path.display())]
    Write {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// An object cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// Why a text is no bundle of CAs. It holds nothing of the text.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is nothing in it.
    #[error("it is empty; leave --old-ca out where nothing is trusted yet")]
    Empty,
    /// There is something else in it.
    #[error(
        "it holds no certificate; what a webhook has for caBundle is wanted, as PEM or as PEM in base64"
    )]
    NoCertificate,
    /// The PEM of a certificate is broken.
    #[error("a certificate in it is broken: its PEM cannot be read")]
    BrokenPem,
    /// The dates of a certificate cannot be read.
    #[error("a certificate in it is broken: when it expires cannot be read")]
    NoExpiry,
}
