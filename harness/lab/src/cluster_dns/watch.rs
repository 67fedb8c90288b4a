//! Following the API: after every change that matters, records anew.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use inroads_harness::clock::{self, Stopwatch};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::records::{Identity, Records, Snapshot};
use super::responder::ClusterDns;

/// Keeps `dns` in step with the API, for as long as it runs. While the API is away, `dns` goes on with what
/// it has.
pub(super) async fn follow(client: Client, identity: Identity, dns: &ClusterDns) -> WatchError {
    let (namespaces, namespaces_seen) = observe::<Namespace>(&client);
    let (services, services_seen) = observe::<Service>(&client);
    let (places, places_seen) = Places::observe(&client).await;
    let mut changes = stream::select_all([namespaces_seen, services_seen, places_seen]);

    let listed = async {
        tokio::try_join!(
            namespaces.wait_until_ready(),
            services.wait_until_ready(),
            places.wait_until_ready(),
        )
    };
    tokio::select! {
        Ok(_) = listed => {}
        () = drain(&mut changes) => return WatchError,
    }
    tracing::info!("all lists are in");
    loop {
        let stopwatch = Stopwatch::start();
        let (slices, endpoints) = places.state();
        let snapshot = Snapshot {
            namespaces: namespaces.state(),
            services: services.state(),
            slices,
            endpoints,
        };
        dns.replace(make(snapshot, identity.clone()).await);
        let pause = GATHER.max(stopwatch.elapsed() * REST);
        if changes.next().await.is_none() {
            return WatchError;
        }
        // What comes in a moment comes together: a rollout is many changes.
        drop(tokio::time::timeout(pause, drain(&mut changes)).await);
    }
}

/// The API is no longer followed.
#[derive(Debug, thiserror::Error)]
#[error("the watch of the API ended, which it never should")]
pub(super) struct WatchError;

/// Where Services are served, in the objects that the API has for it.
enum Places {
    Slices(Store<EndpointSlice>),
    /// Before Kubernetes 1.21. Newer ones have them too, but cut long lists short.
    Endpoints(Store<Endpoints>),
}

impl Places {
    async fn observe(client: &Client) -> (Self, BoxStream<'static, ()>) {
        if has_slices(client).await {
            let (store, seen) = observe(client);
            (Self::Slices(store), seen)
        } else {
            let (store, seen) = observe(client);
            (Self::Endpoints(store), seen)
        }
    }

    async fn wait_until_ready(&self) -> Result<(), WriterDropped> {
        match self {
            Self::Slices(store) => store.wait_until_ready().await,
            Self::Endpoints(store) => store.wait_until_ready().await,
        }
    }

    fn state(&self) -> (Vec<Arc<EndpointSlice>>, Vec<Arc<Endpoints>>) {
        match self {
            Self::Slices(store) => (store.state(), Vec::new()),
            Self::Endpoints(store) => (Vec::new(), store.state()),
        }
    }
}

/// Whether the API serves slices. Asks until it says so.
async fn has_slices(client: &Client) -> bool {
    loop {
        match client.list_api_group_resources(SLICES).await {
            Ok(_) => return true,
            Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND => {
                tracing::info!("the API is an older one: it has Endpoints, no EndpointSlices");
                return false;
            }
            Err(error) => tracing::warn!(%error, group = SLICES, "the API cannot be discovered"),
        }
        tokio::time::sleep(DISCOVERY_PAUSE).await;
    }
}

/// All objects of a kind as they are, and a stream that says when they have changed. The stream must be
/// polled for the objects to be kept.
fn observe<K>(client: &Client) -> (Store<K>, BoxStream<'static, ()>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store::<K>();
    let seen = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .filter_map(async |event| {
            event
                .inspect_err(|error| tracing::warn!(%error, kind = %K::kind(&()), "the API cannot be watched"))
                .ok()
                .map(drop)
        });
    (store, seen.boxed())
}

/// Makes records where it holds up no question, as a large cluster has many.
async fn make(snapshot: Snapshot, identity: Identity) -> Records {
    let serial = u32::try_from(clock::wall().as_second()).unwrap_or_default();
    tokio::task::spawn_blocking(move || Records::of(&snapshot, &identity, serial))
        .await
        .expect("making records does not panic and is not cancelled")
}

/// Polls a stream to its end.
async fn drain(changes: &mut (impl Stream<Item = ()> + Unpin)) {
    while changes.next().await.is_some() {}
}

/// The group that slices are in.
const SLICES: &str = "discovery.k8s.io/v1";

/// How long until an API that could not be asked is asked again.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);

/// How long changes are gathered at least.
const GATHER: Duration = Duration::from_millis(3);

/// Making records takes at most one part in this many, and one, of the time.
const REST: u32 = 4;
