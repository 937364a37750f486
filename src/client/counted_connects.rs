//! Counts the connections of a reqwest client, those that fail or are given up included.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use crate::metrics::Metrics;

/// A layer of reqwest's connector.
#[derive(Clone, Debug)]
pub(super) struct CountConnects(pub(super) Arc<Metrics>);

/// The connector `inner`, counted.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

/// Counts an attempt when it is dropped. A time-out drops it while it still connects.
struct ConnectAttempt {
    metrics: Arc<Metrics>,
    made: bool,
}

impl<S> Layer<S> for CountConnects {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        let metrics = self.0.clone();
        Counted { inner, metrics }
    }
}

impl<S, R> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.inner.call(request);
        let mut attempt = ConnectAttempt {
            metrics: self.metrics.clone(),
            made: false,
        };
        Box::pin(async move {
            let connected = connecting.await;
            attempt.note(connected.is_ok());
            connected
        })
    }
}

impl ConnectAttempt {
    fn note(&mut self, made: bool) {
        self.made = made;
    }
}

impl Drop for ConnectAttempt {
    fn drop(&mut self) {
        self.metrics.connect(self.made);
    }
}
