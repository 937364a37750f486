//! The variables by which clients of each language trust the root.

use std::path::Path;

/// A variable for the apps of a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientVariable {
    /// The language, or a program.
    pub client: &'static str,
    /// The name of the variable.
    pub name: &'static str,
    /// Its value, in which `{}` stands for the folder.
    template: &'static str,
    /// Whether its value is appended to the one that an app has already, behind a blank.
    pub appends: bool,
    /// What it adds or replaces.
    pub effect: &'static str,
}

/// All of them, in order of their clients.
pub const VARIABLES: &[ClientVariable] = &[
    ClientVariable {
        appends: true,
        ..variable(
            "java",
            "JAVA_TOOL_OPTIONS",
            "-Djavax.net.ssl.trustStore={}/truststore.jks",
            "replaces the roots of the JDK; the file holds the public roots, too; Java says on stderr that it read this",
        )
    },
    variable(
        "node",
        "NODE_EXTRA_CA_CERTS",
        "{}/ca.crt",
        "adds to the roots of Node.js; Bun and Deno read it, too",
    ),
    variable(
        "python",
        "SSL_CERT_DIR",
        HASHED,
        "adds to the system's roots for ssl, urllib and aiohttp; replaces certifi's for httpx",
    ),
    variable(
        "python",
        "REQUESTS_CA_BUNDLE",
        "{}/ca-bundle.crt",
        "replaces certifi's roots for requests, and what an app sets as session.verify; the file holds the public roots, too",
    ),
    variable(
        "php",
        "PHP_INI_SCAN_DIR",
        ":{}/php",
        "replaces the roots of curl and of streams; the colon keeps PHP's own folder, with its extensions",
    ),
    variable("go", "SSL_CERT_DIR", HASHED, SYSTEM),
    variable("ruby", "SSL_CERT_DIR", HASHED, SYSTEM),
    variable(
        "dotnet",
        "SSL_CERT_DIR",
        HASHED,
        "adds to the system's roots, on Linux and from .NET 8 on; not tried",
    ),
    variable("curl", "SSL_CERT_DIR", HASHED, SYSTEM),
    variable(
        "wget",
        "WGETRC",
        "{}/wgetrc",
        "adds to the system's roots; replaces the settings in ~/.wgetrc",
    ),
    variable(
        "perl",
        "PERL_LWP_SSL_CA_FILE",
        "{}/ca-bundle.crt",
        "replaces the roots of LWP; the file holds the public roots, too",
    ),
];

const HASHED: &str = "{}/hashed:/etc/ssl/certs";

const SYSTEM: &str = "adds to the system's roots";

const fn variable(
    client: &'static str,
    name: &'static str,
    template: &'static str,
    effect: &'static str,
) -> ClientVariable {
    ClientVariable {
        client,
        name,
        template,
        appends: false,
        effect,
    }
}

impl ClientVariable {
    /// The value for the trust folder `dir`.
    pub fn value(&self, dir: &Path) -> String {
        self.template.replace("{}", &dir.display().to_string())
    }

    /// The lines of a shell that set it for the trust folder `dir`.
    pub fn export(&self, dir: &Path) -> String {
        let Self { name, effect, .. } = self;
        let value = self.value(dir);
        let before = match self.appends {
            true => format!("${{{name}:+${name} }}"),
            false => String::new(),
        };
        format!("# {name} {effect}\nexport {name}=\"{before}{value}\"\n")
    }
}

/// The clients, each once.
pub fn clients() -> Vec<&'static str> {
    let mut clients: Vec<&str> = VARIABLES.iter().map(|variable| variable.client).collect();
    clients.dedup();
    clients
}

/// Why `text` cannot be the path of a trust folder. Variables of apps name it, and some separate paths by colons.
pub fn check_path(text: &str) -> Result<(), &'static str> {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+@".contains(letter);
    match text.starts_with('/') && text.chars().all(is_plain) {
        true => Ok(()),
        false => Err("is not an absolute path of letters, digits and /._-+@"),
    }
}
