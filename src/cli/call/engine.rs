//! The sidecar's own engine in this process, for one account and one call. Nothing renews, watches or reloads here: a
//! token is requested only if the call needs one.

use std::{io, net::Ipv4Addr, sync::Arc};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, timeout},
};

use super::command::CallOptions;
use crate::{
    account::{self, AccountError, AccountFactory, Directory},
    body::budget::ByteBudget,
    client::{self, api::ClientError, pools::Pools},
    config::Config,
    metrics::Metrics,
    net::connector::{Connector, DialError},
    proxy::Proxy,
    secret::{Secret, SecretSource},
    server::{self, Drain, ListenAddr, Listener, SocketOwner, Speaks, Workers},
    token::source::{api, redis::Redis, store::Store},
    wechat::endpoint::Credential,
};

/// How long a token of the store must still live to be taken from it.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// How long the store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// A running engine. It ends when this is dropped.
pub(super) struct Engine {
    address: ListenAddr,
    /// Other processes of this machine reach the port, too.
    key: Secret,
    _owner: SocketOwner,
    _tasks: JoinSet<()>,
}

/// Why the engine does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(
        "no sidecar runs, and a token of the classic API, which only a request to WeChat can give, ends that of everybody else: start the sidecar, or add --mint"
    )]
    Classic,
    #[error("there are several accounts: name one with --account: {0}")]
    Several(String),
    #[error("no account is called so; there are: {0}")]
    Unknown(String),
    #[error("several accounts share this corpid: name one with --account: {0}")]
    SharedCorpid(String),
    #[error("upstream: {0}")]
    Client(#[from] ClientError),
    #[error("upstream: {0}")]
    Connector(#[from] DialError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("nothing can be listened on: {0}")]
    Listen(#[from] io::Error),
}

impl Engine {
    /// Starts it for the account of the call.
    pub(super) async fn start(config: Config, call: &CallOptions) -> Result<Self, EngineError> {
        config.connect.dns.start();
        let redis = config.store.clone();
        let redis = redis.map(|store| Redis::new(store, config.connect.dns.nearby()));
        let mut options = account::Options::clone(select(&config.accounts, call)?);
        let secret = options.secret.clone();
        if options.fetch_revokes_others() && !call.mint {
            let segment = call.target.first_segment();
            let has_segment = options.appid == segment || options.name.as_deref() == Some(segment);
            let taken = call.target.credential(options.api, has_segment);
            let takes_token = taken == Some(Credential::AccessToken);
            if takes_token && !has_token(redis.as_ref(), &options).await {
                return Err(EngineError::Classic);
            }
            seal(&mut options);
        }
        let metrics = Arc::new(Metrics::default());
        let client = api::client(&config.connect, metrics.clone())?;
        let connector = Arc::new(Connector::new(config.connect.clone())?);
        let factory = AccountFactory::new(
            client,
            connector.clone(),
            config.token_wait,
            metrics.clone(),
        );
        let factory = factory.with_store(redis);
        let mut account = Arc::new(options).open(&factory)?;
        // A login takes the secret.
        account.secret = secret;
        let accounts = vec![Arc::new(account)];
        let directory = Directory::new(accounts, factory.fingerprints().clone());
        let key = random_key()?;
        let workers = workers(config, connector, &directory, &metrics, &key)?;
        let any_port = ListenAddr::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let listener = Listener::bind(&any_port, Speaks::Http).await?;
        let address = listener.address().clone();
        let (owner, owned) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(Arc::new(workers), Drain::default(), owned));
        Ok(Self {
            address,
            key,
            _owner: owner,
            _tasks: tasks,
        })
    }

    pub(super) fn address(&self) -> &ListenAddr {
        &self.address
    }

    pub(super) fn key(&self) -> &Secret {
        &self.key
    }
}

/// A key that no other process can guess.
fn random_key() -> io::Result<Secret> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(Secret::new(format!("{:032x}", u128::from_ne_bytes(bytes))))
}

/// One worker, which serves callers with `key`.
fn workers(
    config: Config,
    connector: Arc<Connector>,
    directory: &Directory,
    metrics: &Arc<Metrics>,
    key: &Secret,
) -> io::Result<Workers> {
    let server = server::Options {
        workers: 1,
        ..config.server
    };
    let upstream = client::Options {
        keep_warm: 0,
        ..config.upstream
    };
    let budget = ByteBudget::new(config.replay_memory);
    let mut options = config.proxy;
    options.guard.caller_key = Some(Arc::new(SecretSource::fixed(key.clone())));
    Workers::start(server, &Drain::default(), metrics, None, || {
        let pools = Pools::new(connector.clone(), upstream, metrics.clone());
        let (directory, metrics) = (directory.clone(), metrics.clone());
        Proxy::new(options.clone(), directory, pools, budget, metrics)
    })
}

/// The account that the call names, or the one that is meant without a name.
fn select<'a>(
    accounts: &'a [Arc<account::Options>],
    call: &CallOptions,
) -> Result<&'a account::Options, EngineError> {
    let names = || account::listed(accounts.iter().map(|one| one.names()));
    let called = |word: &str| {
        let by_name = |one: &&Arc<account::Options>| one.name.as_deref() == Some(word);
        let by_appid = accounts.iter().filter(|one| one.appid == word);
        let named = accounts.iter().find(by_name);
        named.map_or_else(|| by_appid.collect(), |named| vec![named])
    };
    let segment = call.target.first_segment();
    let found = match call.account.as_deref() {
        Some(word) => called(word),
        None => called(segment),
    };
    match (found.as_slice(), call.account.is_some()) {
        ([one], _) => return Ok(one),
        ([], false) => {}
        ([], true) => return Err(EngineError::Unknown(names())),
        (_, _) => return Err(EngineError::SharedCorpid(names())),
    }
    let default = accounts.iter().find(|one| one.default);
    match (default, accounts) {
        (Some(account), _) | (None, [account]) => Ok(account),
        _ => Err(EngineError::Several(names())),
    }
}

/// Whether the store holds a token of the account that outlives the call.
async fn has_token(redis: Option<&Arc<Redis>>, account: &account::Options) -> bool {
    let Some(redis) = redis else {
        return false;
    };
    let slot = redis.slot(account.key_parts());
    let found = timeout(STORE_TIMEOUT, slot.read()).await;
    let token = found
        .ok()
        .and_then(Result::ok)
        .and_then(|state| state.token);
    token.is_some_and(|token| token.remaining > LONG_ENOUGH)
}

/// Lets the account take its token from the store alone: no refusal causes a request, and one that is sent all the
/// same, because the token vanished in the meantime, has a secret with which WeChat issues none.
fn seal(account: &mut account::Options) {
    account.daily_fetches = 0;
    account.secret = Some(Arc::new(SecretSource::fixed(Secret::new("sealed"))));
}
