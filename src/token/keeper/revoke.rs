//! Revokes the token in hand, in the steps that its source needs. They run to their end whoever waits for them.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};

use super::Keeper;
use crate::{
    metrics::Cause,
    token::{
        Token,
        source::{
            TokenError, TokenErrorKind, TokenSource,
            revocation::{APART, NotRevocable, OVERLAP, RevocationMethod, apart},
        },
    },
};

/// How often a forced refresh is asked for that brings the token before it. WeChat refreshes nothing within 30 s of
/// another forced refresh, which may have been somebody else's. The second one is also asked for again if WeChat is
/// busy or out of reach.
const ATTEMPTS: u32 = 4;

/// A step of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationStep {
    /// An ordinary fetch: WeChat may have another token by now than the one in hand.
    LookUp,
    /// The first forced refresh.
    FirstRefresh,
    /// The pause that WeChat wants.
    Pause,
    /// The second forced refresh.
    SecondRefresh,
    /// The request for another classic token.
    Request,
}

impl RevocationStep {
    /// All steps of `method`, in order.
    pub fn all(method: RevocationMethod) -> &'static [Self] {
        match method {
            RevocationMethod::TwoRefreshes => &[
                Self::LookUp,
                Self::FirstRefresh,
                Self::Pause,
                Self::SecondRefresh,
            ],
            RevocationMethod::OneRequest => &[Self::Request],
        }
    }

    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::LookUp => "look_up",
            Self::FirstRefresh => "first_refresh",
            Self::Pause => "pause",
            Self::SecondRefresh => "second_refresh",
            Self::Request => "request",
        }
    }
}

/// A revocation that runs, or the last one.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// How it is done.
    pub method: RevocationMethod,
    /// When it began.
    pub begun: Instant,
    /// How many of its steps are done.
    pub done: usize,
    /// When the old token is refused everywhere, as far as is known. `None` if it was not replaced.
    pub dead_at: Option<Instant>,
    /// How it ended, if it did.
    pub ended: Option<Result<(), RevocationError>>,
}

impl Revocation {
    fn begin(method: RevocationMethod) -> Self {
        let begun = Instant::now();
        Self {
            method,
            begun,
            done: 0,
            dead_at: Some(begun + method.old_token_dead_in()),
            ended: None,
        }
    }

    /// How long until the old token is refused everywhere, as far as is known. `None` if it was not replaced.
    pub fn old_token_dead_in(&self) -> Option<Duration> {
        let left = self.dead_at?.saturating_duration_since(Instant::now());
        let replacing = match self.method {
            RevocationMethod::TwoRefreshes => RevocationStep::FirstRefresh,
            RevocationMethod::OneRequest => RevocationStep::Request,
        };
        let steps = RevocationStep::all(self.method).iter();
        let is_replaced = !steps.skip(self.done).any(|step| *step == replacing);
        Some(match (self.is_running(), is_replaced) {
            (false, _) => left,
            // A request that WeChat has not answered yet may take its time.
            (true, true) => left.max(Duration::from_secs(1)),
            (true, false) => left.max(self.method.old_token_dead_in()),
        })
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }
}

/// Why a revocation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// A fetch failed.
    #[error("{0}")]
    Fetch(#[from] TokenError),
    /// WeChat returned the token of before, again and again.
    #[error(
        "WeChat returned the same token again; probably something else forces refreshes of this AppID at the same time"
    )]
    SameToken,
}

/// Whether a forced refresh may succeed in half a minute that failed with `error`.
fn is_passing(error: &TokenError) -> bool {
    use TokenErrorKind::{Busy, MinuteQuota};
    error.was_sent() && matches!(error.kind(), Busy | MinuteQuota)
}

impl<S: TokenSource> Keeper<S> {
    /// Begins to revoke the token in hand. Returns whether it does; otherwise one is running already.
    ///
    /// Calls go on meanwhile: each new token is taken into use at once, and the one before it still works for a while.
    pub fn revoke(self: &Arc<Self>) -> Result<bool, NotRevocable> {
        let method = self.source.revocation()?;
        let begins = self.latest().send_if_modified(|latest| {
            let begins = !latest.as_ref().is_some_and(Revocation::is_running);
            if begins {
                *latest = Some(Revocation::begin(method));
            }
            begins
        });
        if begins {
            let this = Arc::clone(self);
            self.runtime.spawn(this.run_revocation(method));
        }
        Ok(begins)
    }

    /// Follows the revocation that runs, or shows the last one.
    pub fn revocation(&self) -> watch::Receiver<Option<Revocation>> {
        self.latest().subscribe()
    }

    fn latest(&self) -> &watch::Sender<Option<Revocation>> {
        self.revocation.get_or_init(|| watch::Sender::new(None))
    }

    async fn run_revocation(self: Arc<Self>, method: RevocationMethod) {
        let account = self.metrics.problems.account();
        let name = method.name();
        tracing::info!(account, "revoking the access_token begins ({name})");
        let outcome = match method {
            RevocationMethod::TwoRefreshes => self.refresh_twice().await,
            RevocationMethod::OneRequest => self.request_another().await,
        };
        let latest = outcome.clone();
        self.update(|revocation| revocation.ended = Some(latest));
        match outcome {
            Ok(()) => {
                let old = match method {
                    RevocationMethod::TwoRefreshes => "WeChat refuses the old one from now on",
                    RevocationMethod::OneRequest => "the old one works for 5 minutes more at most",
                };
                tracing::info!(account, "the access_token was revoked: {old}");
            }
            Err(error) => tracing::warn!(account, %error, "revoking the access_token failed"),
        }
    }

    /// Requests another classic token.
    async fn request_another(self: &Arc<Self>) -> Result<(), RevocationError> {
        let before = self.in_hand();
        let outcome = match self.fetch_next(Some(Cause::Revoke)).await {
            Ok(token) if before.is_some_and(|before| before.is(&token)) => {
                Err(RevocationError::SameToken)
            }
            outcome => outcome.map(drop).map_err(RevocationError::from),
        };
        let replaced = outcome.is_ok();
        self.update(|revocation| {
            revocation.dead_at = replaced.then(|| Instant::now() + OVERLAP);
            revocation.done += usize::from(replaced);
        });
        outcome
    }

    /// Forces two refreshes of the stable token.
    async fn refresh_twice(self: &Arc<Self>) -> Result<(), RevocationError> {
        let first = self.refresh_once().await;
        let first = first.inspect_err(|_| self.update(|revocation| revocation.dead_at = None))?;
        let overlap_ends = Instant::now() + OVERLAP;
        let pause = apart(first.lifetime());
        self.update(|revocation| {
            revocation.dead_at = Some(Instant::now() + pause);
            revocation.done += 1;
        });
        sleep(pause).await;
        self.update(|revocation| revocation.done += 1);
        let second = self.refresh(&first, RevocationStep::SecondRefresh).await;
        let replaced = second.is_ok();
        self.update(|revocation| {
            // Without the second refresh the first one ends it, too, but later.
            revocation.dead_at = Some(match replaced {
                true => Instant::now(),
                false => overlap_ends,
            });
            revocation.done += usize::from(replaced);
        });
        second.map(drop)
    }

    /// Looks up WeChat's current token, and forces it to be replaced. Without the look, another token than the one in
    /// hand might be one that WeChat has had for a while.
    async fn refresh_once(self: &Arc<Self>) -> Result<Arc<Token>, RevocationError> {
        let current = self.fetch_next(None).await?;
        self.update(|revocation| revocation.done += 1);
        self.refresh(&current, RevocationStep::FirstRefresh).await
    }

    /// Forces a refresh until WeChat returns another token than `current`.
    async fn refresh(
        self: &Arc<Self>,
        current: &Token,
        step: RevocationStep,
    ) -> Result<Arc<Token>, RevocationError> {
        let mut pause = apart(current.lifetime());
        let is_second = step == RevocationStep::SecondRefresh;
        // The first refresh does not end the old token at once.
        let rest = if is_second { Duration::ZERO } else { APART };
        for attempt in 1..=ATTEMPTS {
            let error = match self.fetch_next(Some(Cause::Revoke)).await {
                Ok(token) if !token.is(current) => return Ok(token),
                Ok(_) => RevocationError::SameToken,
                // Nothing has begun, and who wants it can say so again.
                Err(error) if !is_second || !is_passing(&error) => return Err(error.into()),
                Err(error) => error.into(),
            };
            if attempt == ATTEMPTS {
                return Err(error);
            }
            self.update(|revocation| {
                let dead_at = &mut revocation.dead_at;
                *dead_at = dead_at.map(|at| at.max(Instant::now() + pause + rest));
            });
            sleep(pause).await;
            pause = (pause * 2).min(APART);
        }
        Err(RevocationError::SameToken)
    }

    /// Fetches after the fetch in flight, if there is one. Without a `cause` it is an ordinary fetch.
    async fn fetch_next(self: &Arc<Self>, cause: Option<Cause>) -> Result<Arc<Token>, TokenError> {
        loop {
            let (flight, is_ours) = {
                let mut state = self.lock();
                match (state.flight(), cause) {
                    (Some(flight), _) => (flight, false),
                    (None, Some(cause)) => (self.launch(&mut state, cause), true),
                    (None, None) => (self.launch_by_itself(&mut state, None), true),
                }
            };
            let outcome = flight.await;
            if is_ours {
                return outcome;
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut Revocation)) {
        self.latest().send_modify(|latest| {
            if let Some(revocation) = latest {
                change(revocation);
            }
        });
    }
}
