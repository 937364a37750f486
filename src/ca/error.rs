//! Why there is no local CA.

use std::{io, path::PathBuf, time::SystemTime};

use crate::net::tls::TlsError;

/// Why there is no local CA, as a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The folder that keeps the CA cannot be used.
    #[error("{} cannot be used: {flaw}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        flaw: FolderFlaw,
    },
    /// A file or a folder cannot be written.
    #[error("{} cannot be written: {error}", .path.display())]
    Write {
        /// The file or the folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// The file of a company's roots cannot be used.
    #[error("{} cannot be used: {error}", .file.display())]
    Also {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        error: TlsError,
    },
    /// A certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A certificate cannot be served.
    #[error("no certificate can be served: {0}")]
    Serve(#[from] rustls::Error),
}

/// What is wrong with the folder that keeps the CA. The subject, 'it', is the folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderFlaw {
    /// It is a file or a link.
    #[error("it is no folder; remove it, or name another --ca-dir")]
    NotAFolder,
    /// Another user made it, and could use the key.
    #[error(
        "it belongs to user {owner}, and this process is user {own}: remove it and restart the apps, or run as that user"
    )]
    Foreign {
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        own: u32,
    },
    /// It, or a file in it, cannot be read.
    #[error("{} cannot be read ({error}); {MEND}", .file.display())]
    Unreadable {
        /// The file or the folder.
        file: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM; {MEND}", .file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The issuing certificate may sign for every host, or cannot be parsed.
    #[error(
        "its issuing certificate is none that this program makes: it is not constrained to hosts; {MEND}"
    )]
    Unconstrained,
    /// The files do not belong together.
    #[error("its certificates and its key do not fit together ({0}); {MEND}")]
    Mismatch(String),
    /// The root has come to its end.
    #[error("its root expired on {}; {MEND}", humantime::format_rfc3339_seconds(*.0))]
    Expired(SystemTime),
}

/// What to do about most of them.
const MEND: &str =
    "remove the folder, and restart the sidecar and the apps that have loaded its root";
