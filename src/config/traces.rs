//! The collector of traces.

use http::Uri;

use super::{error::ConfigError, keys::Id, secrets, settings::Settings};
use crate::{
    net::{origin::is_loopback, tls::TlsRoots},
    secret::Secret,
    traces::{self, Options},
};

/// The path of a collector that was given without one (OTLP/HTTP, "Default URL Paths").
const PATH: &str = "/v1/traces";

/// The collector, if there is one. It is trusted by `tls`.
pub(super) fn traces(
    settings: &Settings,
    tls: &TlsRoots,
    warnings: &mut Vec<String>,
) -> Result<Option<Options>, ConfigError> {
    let url = settings.optional(Id::OtlpEndpoint, url)?;
    let headers = secrets::secret(settings, Id::OtlpHeadersFile, warnings)?;
    let at_file = |problem: &str| settings.error(Id::OtlpHeadersFile, problem);
    let Some((url, is_plain)) = url else {
        return match headers {
            Some(_) => Err(at_file("there is no --otlp-endpoint that could want them")),
            None => Ok(None),
        };
    };
    if let Some(file) = &headers {
        let checked = traces::headers(&file.held());
        checked.map_err(|problem| at_file(&format!("the file {problem}")))?;
        if is_plain {
            let warning = "--otlp-headers-file is sent over plain http, which shows it to everybody on the way to the collector";
            warnings.push(warning.to_owned());
        }
    }
    let tls = tls.clone();
    Ok(Some(Options { url, headers, tls }))
}

/// The URL to send spans to, and whether it is plain http to another machine.
fn url(text: &str) -> Result<(Secret, bool), &'static str> {
    let text = text.trim();
    let url: Uri = text.parse().map_err(|_| "is not a URL")?;
    let (scheme, host) = (url.scheme_str(), url.host().unwrap_or_default());
    if !matches!(scheme, Some("http" | "https")) || host.is_empty() {
        return Err("is not a URL that begins with http:// or https://");
    }
    if (url.authority()).is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("has a user and password: put an Authorization line into --otlp-headers-file");
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_plain = scheme == Some("http") && !is_loopback(host);
    let has_path = url.path_and_query().is_some_and(|path| path != "/");
    let url = match has_path {
        true => text.to_owned(),
        false => format!("{}{PATH}", text.trim_end_matches('/')),
    };
    Ok((Secret::new(url), is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_usual_one() {
        for (text, whole, is_plain) in [
            (
                "http://localhost:4318",
                "http://localhost:4318/v1/traces",
                false,
            ),
            ("http://[::1]:4318/", "http://[::1]:4318/v1/traces", false),
            ("http://c:4318/v1/traces", "http://c:4318/v1/traces", true),
            ("https://c/otlp?key=1", "https://c/otlp?key=1", false),
            ("https://c/?key=1", "https://c/?key=1", false),
        ] {
            let (url, plain) = url(text).ok().unwrap();
            assert_eq!((url.expose(), plain), (whole, is_plain));
        }
        for bad in ["", "c:4318", "grpc://c", "http://", "http://u:HUNTER2@c"] {
            let error = url(bad).err().unwrap();
            assert!(!error.contains("HUNTER2"), "{error}");
        }
    }
}
