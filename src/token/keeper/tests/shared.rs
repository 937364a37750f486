//! Tests of a keeper whose tokens others put in place.

use super::*;

/// Returns tokens that others have fetched.
struct OthersTokens(AtomicU64);

impl TokenSource for OthersTokens {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let fetched = false;
        another(number).map(|token| FetchedToken { token, fetched })
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_others_put_in_place_is_confirmed_once_it_is_accepted() {
    let options = Options {
        renewal: Renewal::Ahead,
        daily_fetches: 500,
        patience: Duration::from_secs(15),
        retry_same_token: true,
    };
    let keeper = Keeper::new(OthersTokens(AtomicU64::new(0)), options, Arc::default());
    let first = keeper.token().await.unwrap();
    let second = keeper.replay_token(&first, REFUSAL).await.unwrap();
    assert!(!second.token.is(&first) && !second.confirmed);
    keeper.accepted(&second.token);
    assert!(
        keeper
            .replay_token(&first, REFUSAL)
            .await
            .unwrap()
            .confirmed
    );
}
