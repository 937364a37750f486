//! The admin port. Everybody who reaches it may read probes and metrics; all else is for loopback peers only.

mod account_list;
mod accounts;
mod metrics;
mod problems;
mod quotas;
mod reloads;
mod revoke;
mod status;
mod status_page;

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::yield_now,
    time::{Duration, timeout},
};

use crate::{
    account::{Account, Directory, Lookup},
    body::budget::ByteBudget,
    http_host::{self, HostReply, HostRequest, Service, Visit, text},
    log::Log,
    metrics::{AT_ONCE, Metrics},
    proxy::{GuardOptions, STATUS_HEADER, guard::Exposure},
    server::{Drain, ListenAddr, Workers},
};

/// What the admin port serves.
#[derive(Debug)]
pub struct Admin {
    /// All accounts.
    pub directory: Directory,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// The budget of buffered bodies.
    pub budget: &'static ByteBudget,
    /// The threads that serve calls.
    pub workers: Arc<Workers>,
    /// Whether the process is about to end.
    pub drain: Drain,
    /// The log, if this process installed one.
    pub log: Option<Log>,
    /// Ends the process when notified, if that is allowed.
    pub shutdown: Option<Arc<Notify>>,
    /// Whether tokens may be revoked.
    pub enable_revoke: bool,
    /// Names that are accepted in `Host`, in addition to loopback names.
    pub allow_hosts: Vec<String>,
    /// The last reload of the configuration.
    pub readings: Arc<Reloads>,
    /// The limits in force.
    pub limits: Limits,
    /// The addresses where apps connect, whatever their account.
    pub listen: Vec<ListenAddr>,
}

/// The limits that the status page shows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections of apps.
    pub app_connections: usize,
    /// The most connections to WeChat.
    pub upstream_connections: usize,
    /// The threads that serve calls.
    pub workers: usize,
}

pub use reloads::Reloads;

/// The value of [`STATUS_HEADER`] in each reply of the admin port. A port for calls never sends it: its own values differ,
/// and it removes the header from WeChat's replies.
pub const MARK: &str = "admin";

/// The limit of each wait for a peer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A probe takes a connection for a moment only. A connection that stays is told with a reply that it ends, and has
/// time for that, a pause before it and one more request.
const HOST: http_host::Options = http_host::Options {
    connections: 64,
    largest_head: 16 * 1024,
    first_request: PATIENCE,
    keep_alive: PATIENCE,
    when_scarce: Duration::from_secs(5),
    visit: Some(Visit {
        last_reply: Duration::from_secs(2),
        longest: Duration::from_secs(15),
    }),
    grace: Duration::ZERO,
};

/// The largest body. The only one is a log level.
const LARGEST_BODY: usize = 1024;

const INDEX: &str = "\
wechat-sidecar

GET  /livez      200 while every worker answers (/healthz is the same)
GET  /readyz     200 while the default account has a token that WeChat takes, or any of the first 32 where none is the
                 default, and the process is not about to end; ?account=APPID or NAME asks about one, and wants its token
GET  /startupz   200 once every account's first token request has ended, well or badly; with more than 32 accounts only
                 that of the default account counts, or those of the first 32 where none is the default
GET  /metrics    Prometheus text; ?account=APPID or NAME has one alone
GET  /status.json
                 loopback only: all that the page shows, which a browser gets at / from this machine; ?page=2, ?per=50,
                 ?search=TEXT or ?account=APPID or NAME choose the accounts
GET  /accounts   loopback only: what is wrong; each account's token, its age and expiry; how the configuration was read;
                 ?page=2, ?per=500, ?search=TEXT or ?account=APPID or NAME
GET  /quota      loopback only: what is known of the quotas of calls; ?account=APPID or NAME
GET  /log-level  loopback only: the level of the log; PUT sets it
POST /revoke     loopback only, with --enable-revoke: revoke the token of the default account, or of ?account=; GET says how
                 that is done, and how far it is
POST /shutdown   loopback only, with --enable-shutdown: drain and exit (/quitquitquit is the same)
";

/// The admin port. It is open if other machines can reach it.
#[derive(Debug)]
struct AdminService {
    admin: Admin,
    open: bool,
}

impl Service for AdminService {
    async fn answer(&self, request: HostRequest) -> HostReply {
        let mut reply = self.admin.answer(request, self.open).await;
        let mark = HeaderValue::from_static(MARK);
        reply.headers_mut().insert(STATUS_HEADER, mark);
        reply
    }
}

impl Admin {
    /// Serves `listener`, for ever.
    pub async fn serve(self, listener: TcpListener) {
        let open = listener.local_addr().is_ok_and(|local| !is_loopback(local));
        // This drain never begins, so the port answers until the process ends.
        let drain = Drain::default();
        http_host::serve(
            listener,
            None,
            AdminService { admin: self, open },
            HOST,
            drain,
        )
        .await;
    }

    async fn answer(&self, request: HostRequest, open: bool) -> HostReply {
        let HostRequest { head, body, peer } = request;
        let guard = GuardOptions {
            allow_hosts: self.allow_hosts.clone(),
            ..GuardOptions::default()
        };
        let turned_down = guard.check(&head, Exposure::Admin, &|_| false).err();
        if let Some(failure) = turned_down.as_ref().filter(|_| !open) {
            return text(StatusCode::FORBIDDEN, &failure.to_string());
        }
        let path = head.uri.path();
        let get = matches!(head.method, Method::GET | Method::HEAD);
        match (path, get) {
            ("/livez" | "/healthz", true) => return self.live().await,
            ("/readyz", true) => return self.ready(head.uri.query()),
            ("/startupz", true) => return self.started(),
            ("/metrics", true) => return self.metrics(head.uri.query()).await,
            ("/", true) if is_loopback(peer) && status_page::is_wanted(&head.headers) => {
                return status_page::answer();
            }
            ("/", true) => return text(StatusCode::OK, INDEX.trim_end()),
            _ => {}
        }
        if let Some(failure) = turned_down {
            return text(StatusCode::FORBIDDEN, &failure.to_string());
        }
        if !is_loopback(peer) {
            return text(
                StatusCode::FORBIDDEN,
                "this is for peers on this machine only",
            );
        }
        match (path, &head.method) {
            ("/status.json", _) if get => self.status(head.uri.query()).await,
            ("/accounts", _) if get => self.accounts(head.uri.query()).await,
            ("/quota", _) if get => self.quotas(account_in(head.uri.query())),
            ("/log-level", _) if get => match &self.log {
                Some(log) => text(StatusCode::OK, &log.levels.get()),
                None => text(StatusCode::NOT_FOUND, "the log of this process is not ours"),
            },
            ("/log-level", &Method::PUT) => self.set_log_level(body).await,
            ("/revoke", method) if get || *method == Method::POST => {
                self.revoke(method, head.uri.query()).await
            }
            ("/shutdown" | "/quitquitquit", &Method::POST) => self.shut_down(),
            (
                "/accounts" | "/status.json" | "/quota" | "/log-level" | "/revoke" | "/shutdown"
                | "/quitquitquit",
                _,
            ) => text(StatusCode::METHOD_NOT_ALLOWED, "see GET /"),
            _ => text(StatusCode::NOT_FOUND, "see GET /"),
        }
    }

    async fn live(&self) -> HostReply {
        if self.workers.answer_within(Duration::from_secs(2)).await {
            text(StatusCode::OK, "ok")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer")
        }
    }

    fn ready(&self, query: Option<&str>) -> HostReply {
        let word = account_in(query);
        if let (Some(_), Ok(Some(account))) = (word, self.account_named(word)) {
            // Among many accounts it may be one that no call has wanted.
            account.keeper.want();
        }
        match self.readiness(word) {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err((status, reason)) => text(status, &reason),
        }
    }

    /// Whether calls can be answered: those of the account `word`, an AppID or name, or else of the default account,
    /// or else of any of the first accounts. The error gives the reason.
    fn readiness(&self, word: Option<&str>) -> Result<(), (StatusCode, String)> {
        let unready = |reason| (StatusCode::SERVICE_UNAVAILABLE, reason);
        if self.drain.is_leaving() {
            return Err(unready("the process is about to end".to_owned()));
        }
        if let Some(account) = self.account_named(word)? {
            return why_unready(&account).map_or(Ok(()), |why| Err(unready(why)));
        }
        let accounts = self.directory.now();
        // Without a default, one account with a token is enough.
        let mut reason = "there is no account".to_owned();
        for account in accounts.first() {
            match why_unready(account) {
                None => return Ok(()),
                Some(why) => reason = why,
            }
        }
        Err(unready(reason))
    }

    /// The account `word`, an AppID or name, or else the default account, if there is one.
    fn account_named(
        &self,
        word: Option<&str>,
    ) -> Result<Option<Arc<Account>>, (StatusCode, String)> {
        let accounts = self.directory.now();
        let reason = match word.map(|word| accounts.find(word)) {
            None => return Ok(accounts.default_account().cloned()),
            Some(Lookup::One(account)) => return Ok(Some(account.clone())),
            Some(Lookup::Ambiguous) => "several accounts share this corpid: ask by name".to_owned(),
            Some(Lookup::Unknown) => format!("no such account; there are: {}", accounts.names()),
        };
        Err((StatusCode::NOT_FOUND, reason))
    }

    fn started(&self) -> HostReply {
        let accounts = self.directory.now();
        let mut starting = accounts.starting();
        if starting.all(|account| account.keeper.status().tried) {
            text(StatusCode::OK, "ok")
        } else {
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the first token request has not ended",
            )
        }
    }

    async fn set_log_level(&self, body: Incoming) -> HostReply {
        let body = timeout(PATIENCE, Limited::new(body, LARGEST_BODY).collect()).await;
        let Ok(Ok(body)) = body else {
            return text(StatusCode::BAD_REQUEST, "the body is no log level");
        };
        let body = body.to_bytes();
        let wanted = String::from_utf8_lossy(&body);
        let Some(Log { levels, .. }) = &self.log else {
            return text(StatusCode::NOT_FOUND, "the log of this process is not ours");
        };
        match levels.set(wanted.trim()) {
            Ok(()) => {
                tracing::info!(levels = levels.get(), "the log level was changed");
                text(StatusCode::OK, &levels.get())
            }
            Err(reason) => text(StatusCode::BAD_REQUEST, &format!("the body {reason}")),
        }
    }

    fn shut_down(&self) -> HostReply {
        match &self.shutdown {
            Some(shutdown) => {
                shutdown.notify_one();
                text(StatusCode::OK, "shutting down")
            }
            None => text(
                StatusCode::FORBIDDEN,
                "shutting down over HTTP is not enabled: start with --enable-shutdown",
            ),
        }
    }
}

/// Lets other tasks run after some of many accounts, of which `at` were looked at.
async fn let_others_run(at: usize) {
    if at % AT_ONCE == AT_ONCE - 1 {
        yield_now().await;
    }
}

/// The account that a query asks about.
fn account_in(query: Option<&str>) -> Option<&str> {
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    pairs.find_map(|pair| pair.strip_prefix("account="))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The reason why calls of the account fail for want of a token, as a sentence.
fn why_unready(account: &Arc<Account>) -> Option<String> {
    let status = account.keeper.status();
    if let Some(dead) = status.known_dead {
        let reason = dead.reason(|error| account.options.explain(error));
        return Some(format!(
            "no usable access_token for {}: WeChat refuses it for every call, and {reason}",
            account.names()
        ));
    }
    if status.token.is_some_and(|token| token.is_alive()) {
        return None;
    }
    let reason = status.error.map_or_else(
        || "the first token request has not ended".to_owned(),
        |failure| account.options.explain(&failure.error),
    );
    Some(format!("no access_token for {}: {reason}", account.names()))
}
