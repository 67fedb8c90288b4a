//! The controllers.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::apiserver::rest::Rest;

pub(crate) async fn run(_rest: Arc<Rest>, _certificate: String, stop: CancellationToken) {
    stop.cancelled().await;
}
