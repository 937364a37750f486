//! A fake WeChat on a port of its own, for tests: it behaves like the real one, and worse on request.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use wechat_sidecar::fake::Wechat;
//!
//! let wechat = Wechat::calm().await;
//! // Point the app, or a sidecar, at `wechat.url()`, and see what arrives.
//! wechat.expire();
//! assert_eq!(wechat.calls().len(), 0);
//! # }
//! ```
//!
//! It keeps the rules of both token APIs, of quotas, tickets, uploads and WeCom. [`Wechat::change`] turns the knobs of
//! [`Behaviour`], and so does `/_fake/…` for programs in other languages. It shares no code with what it tests, except
//! the list of documented paths.

mod actions;
mod api;
mod behaviour;
mod call;
mod chance;
mod control;
mod delivery;
mod dispatch;
mod head;
mod knobs;
mod listener;
mod logins;
mod media;
mod quota;
mod reply;
mod rids;
mod samples;
mod script;
mod setup;
mod shared;
mod sns;
mod state;
mod tickets;
pub mod tls;
mod token_api;
mod tokens;
mod transcript;
mod wecom;
mod wecom_api;
mod wire;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, MutexGuard, atomic::Ordering},
};

use fastrand::Rng;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

pub use self::{
    api::picture,
    behaviour::{Behaviour, EarlyReply, HangUp, Place, RefusalForm},
    call::{RecordedCall, RecordedTokenRequest},
    knobs::SteerError,
    quota::{CallQuota, TokenQuotas},
    setup::Setup,
    tickets::TicketRules,
    wecom::WecomRules,
};
use self::{
    shared::Fake, state::WechatState, tokens::Tokens, transcript::Transcript, wecom::WecomTokens,
};

/// The account that the fake knows by default.
pub const APPID: &str = "wx0123456789abcdef";
/// The secret of [`APPID`].
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The corp that [`Wechat::wecom`] knows.
pub const CORPID: &str = "ww0123456789abcdef";

/// A running fake. It ends, with all its connections, when its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Wechat(Arc<RunningFake>);

#[derive(Debug)]
struct RunningFake {
    addr: SocketAddr,
    ca_pem: Option<String>,
    fake: Arc<Fake>,
    accepting: JoinHandle<()>,
}

impl Drop for RunningFake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wechat {
    /// A fake that refuses 5 % of the calls with a valid token once.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A fake that refuses no call by chance.
    pub async fn calm() -> Self {
        Self::with(Setup {
            refusal_chance: 0.0,
            ..Setup::default()
        })
        .await
    }

    /// A fake with TLS, for clients that trust [`Self::ca_pem`].
    pub async fn start_tls() -> Self {
        Self::with(Setup {
            tls: true,
            ..Setup::default()
        })
        .await
    }

    /// A WeCom that knows these secrets of [`CORPID`]. 5 % of the calls end their token.
    pub async fn wecom(secrets: &[&str]) -> Self {
        Self::with(Setup::wecom(secrets)).await
    }

    /// A fake with this setup.
    ///
    /// # Panics
    /// If it cannot listen, see [`Self::listen`].
    pub async fn with(setup: Setup) -> Self {
        let listen = setup.listen;
        match Self::listen(setup).await {
            Ok(wechat) => wechat,
            Err(error) => panic!("the fake WeChat cannot listen on {listen}: {error}"),
        }
    }

    /// A fake with this setup, or the reason why it cannot listen or make a certificate.
    pub async fn listen(setup: Setup) -> io::Result<Self> {
        let mut rng = setup.seed.map_or_else(Rng::new, Rng::with_seed);
        let mut tokens = Tokens::new(setup.lifetime, setup.overlap, setup.quotas, rng.fork());
        let wecom = setup.wecom.then(|| {
            let (accounts, early_end_chance) = (&setup.accounts, setup.refusal_chance);
            WecomTokens::new(accounts, early_end_chance, setup.lifetime, rng.fork())
        });
        for (appid, secret) in setup.accounts.iter().filter(|_| !setup.wecom) {
            tokens.set_secret(appid, secret);
        }
        let behaviour = Behaviour {
            refusal_chance: setup.refusal_chance,
            ..Behaviour::default()
        };
        let mut state = WechatState {
            wecom,
            prefix: setup.prefix.clone(),
            remember: setup.remember.max(1),
            ..WechatState::new(behaviour, tokens, rng)
        };
        state.initial = Some(state.knobs());
        let fake = Arc::new(Fake::new(state));
        let tls = setup
            .tls
            .then(|| tls::prepare_until(&setup.tls_names, setup.tls_days))
            .transpose()?;
        let (acceptor, ca_pem) = tls.map(|tls| (tls.acceptor, tls.ca_pem)).unzip();
        let listener = TcpListener::bind(setup.listen).await?;
        // The usual queue has 128, and what comes beyond that in a burst is reset.
        let _ = rustix::net::listen(&listener, 4096);
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(listener::accept(listener, acceptor, fake.clone()));
        Ok(Self(Arc::new(RunningFake {
            addr,
            ca_pem,
            fake,
            accepting,
        })))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if self.0.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{}", self.addr(), self.state().prefix)
    }

    /// The root certificate that clients must trust, if it uses TLS.
    pub fn ca_pem(&self) -> Option<String> {
        self.0.ca_pem.clone()
    }

    /// Changes the behaviour. Calls in flight are not affected.
    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// Whether it is WeCom.
    pub fn is_wecom(&self) -> bool {
        self.state().wecom.is_some()
    }

    /// Changes the rules of WeCom.
    pub fn change_wecom(&self, change: impl FnOnce(&mut WecomRules)) {
        if let Some(wecom) = &mut self.state().wecom {
            change(&mut wecom.rules);
        }
    }

    /// From now on, WeCom answers any call to `path` with this code.
    pub fn always(&self, path: &str, code: i64) {
        self.change_wecom(|rules| {
            rules.always.insert(path.to_owned(), code);
        });
    }

    /// Adds an account, or changes the secret of a known one. A corp of WeCom gets one more secret.
    pub fn set_secret(&self, appid: &str, secret: &str) {
        self.state().set_secret(appid, secret);
    }

    /// Sets all knobs back, ends the script, and forgets what was seen. Tokens stay.
    pub fn reset(&self) {
        self.state().reset();
    }

    /// Begins with a script: a JSON list of scenes, as `POST /_fake/script` takes it.
    ///
    /// # Errors
    /// If it is none, and where a scene cannot be played.
    pub fn play(&self, script: &Value) -> Result<(), SteerError> {
        actions::begin(&mut self.state(), script)
    }

    /// From now on, writes each call to this file as a line of JSON, without secrets.
    ///
    /// # Errors
    /// If there can be no such file.
    pub fn record(&self, file: &Path) -> io::Result<()> {
        self.state().transcript = Some(Transcript::create(file)?);
        Ok(())
    }

    /// Why calls are not written any more, if that failed.
    pub fn record_error(&self) -> Option<String> {
        let state = self.state();
        let failed = state.transcript.as_ref()?.failed.as_ref();
        failed.map(io::Error::to_string)
    }

    /// Replaces all tokens, as if somebody else had fetched new ones. The old ones are refused at once.
    pub fn rotate(&self) {
        self.state().rotate();
    }

    /// All tokens have expired: they are refused with 42001 until new ones are fetched.
    pub fn expire(&self) {
        self.state().expire();
    }

    /// The stable token of [`APPID`] that works now. A new one is minted only if there is none.
    pub fn token(&self) -> String {
        self.token_of(APPID)
    }

    /// The same for another account.
    ///
    /// # Panics
    /// If the fake does not know it.
    pub fn token_of(&self, appid: &str) -> String {
        let tokens = &mut self.state().tokens;
        match tokens.find(appid) {
            Some(account) => tokens.peek(account, Instant::now()),
            None => panic!("the fake WeChat has no account {appid}"),
        }
    }

    /// A user's own token, as `/sns/oauth2/access_token` returns it.
    pub fn user_token(&self) -> String {
        let tokens = {
            let state = &mut *self.state();
            state.logins.user_tokens("oUser".to_owned(), &mut state.rng)
        };
        tokens["access_token"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// From now on, an account may call `path` so often a day and a minute.
    pub fn limit(&self, path: &str, a_day: Option<u32>, a_minute: Option<u32>) {
        let quota = CallQuota { a_day, a_minute };
        self.change(|behaviour| {
            behaviour.quotas.insert(path.to_owned(), quota);
        });
    }

    /// Every API call that arrived whole, valid or not, in order.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.state().calls.clone()
    }

    /// Every request to the token endpoints, in order.
    pub fn token_requests(&self) -> Vec<RecordedTokenRequest> {
        self.state().token_requests.clone()
    }

    /// Requests whose body ended early.
    pub fn cut_short(&self) -> Vec<RecordedCall> {
        self.state().cut_short.clone()
    }

    /// Everything that arrived and was not a well-formed request.
    pub fn malformed(&self) -> Vec<Vec<u8>> {
        self.state().malformed.clone()
    }

    /// Whether a placeholder (`sidecar-…`) or a second `access_token` has arrived.
    pub fn saw_placeholder(&self) -> bool {
        self.state().saw_placeholder
    }

    /// Forgets the recorded calls and token requests. Tokens stay.
    pub fn clear(&self) {
        self.state().clear();
    }

    /// Every account token that was issued.
    pub fn all_tokens(&self) -> Vec<String> {
        let state = self.state();
        let wecom = state.wecom.iter().flat_map(WecomTokens::issued);
        state.tokens.issued().iter().chain(wecom).cloned().collect()
    }

    /// Every ticket that was issued.
    pub fn all_tickets(&self) -> Vec<String> {
        self.state().tickets.issued().to_vec()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.0.fake.open.load(Ordering::SeqCst)
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.0.fake.accepted.load(Ordering::SeqCst)
    }

    /// Closes all connections of now silently: idle ones at once, the others after their reply.
    pub fn close_idle(&self) {
        self.0.fake.close_idle.send_replace(());
    }

    /// Ends the listener and all connections. The records stay.
    pub fn stop(&self) {
        self.0.accepting.abort();
    }

    /// Waits until `n` calls have arrived since the start or the last [`Self::clear`].
    pub async fn wait_for_calls(&self, n: usize) {
        self.wait_until(|wechat| wechat.state().calls.len() >= n)
            .await;
    }

    /// The same for requests to the token endpoints.
    pub async fn wait_for_token_requests(&self, n: usize) {
        self.wait_until(|wechat| wechat.state().token_requests.len() >= n)
            .await;
    }

    /// Waits until `condition` holds. It is checked whenever something arrives, or a connection is opened or closed.
    pub async fn wait_until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.0.fake.next_change();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, WechatState> {
        self.0.fake.state()
    }
}
