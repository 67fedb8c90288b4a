//! Several kubectls that are kept at work: one that ends by itself is started again at the same ports.
//!
//! That is quicker than any user, and so the best that the program can be seen to do. How often it was needed
//! is part of the result.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use inroads_harness::method::Interruptions;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::kubeconfig::Kubeconfig;
use super::process::{Job, Running, StartError};

/// How soon after its cause an end is seen.
const NOTICED: Duration = Duration::from_millis(150);

/// Longest wait for one that is started again.
const BACK_LIMIT: Duration = Duration::from_secs(10);

/// The pause after a start that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Kubectls at work; they end when this is dropped.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What the tasks know together.
struct Shared {
    kubeconfig: Kubeconfig,
    /// How many are not there at the moment.
    down: watch::Sender<usize>,
    interruptions: Mutex<Interruptions>,
}

impl Keeper {
    /// Starts one for each job, and returns where each listens.
    ///
    /// # Errors
    /// Where one of them cannot be brought to listen; the others are ended.
    pub(super) async fn start(
        kubeconfig: Kubeconfig,
        jobs: Vec<Job>,
    ) -> Result<(Self, Vec<Vec<SocketAddr>>), StartError> {
        let all = jobs
            .iter()
            .map(|job| Running::start(job, &kubeconfig, None));
        let all = try_join_all(all).await?;
        let locals = all.iter().map(|running| running.locals.clone()).collect();
        let shared = Arc::new(Shared {
            kubeconfig,
            down: watch::Sender::new(0),
            interruptions: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (job, running) in jobs.into_iter().zip(all) {
            let (shared, stop) = (shared.clone(), stop.clone());
            tasks.spawn(async move {
                let mut running = running;
                tokio::select! {
                    () = shared.keep(&job, &mut running) => {}
                    () = stop.cancelled() => {}
                }
                if let Err(error) = running.end().await {
                    tracing::warn!(%error, "ending `{job}`");
                }
            });
        }
        let keeper = Self {
            shared,
            stop,
            tasks,
        };
        Ok((keeper, locals))
    }

    /// Waits until all are there, and says how often one was not.
    pub(super) async fn interruptions(&self) -> Interruptions {
        sleep(NOTICED).await;
        let mut down = self.shared.down.subscribe();
        // Where it does not come back, what follows fails, and says why.
        drop(timeout(BACK_LIMIT, down.wait_for(|down| *down == 0)).await);
        self.shared.interruptions().clone()
    }

    /// Ends all and waits for that.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    /// Keeps `running` at work for as long as this is polled.
    async fn keep(&self, job: &Job, running: &mut Running) {
        loop {
            let said = running.ended().await;
            self.down.send_modify(|down| *down += 1);
            {
                let mut interruptions = self.interruptions();
                interruptions.count += 1;
                interruptions.said = format!("`{job}`: {said}");
            }
            *running = self.again(job, &running.locals).await;
            self.down.send_modify(|down| *down -= 1);
        }
    }

    /// Starts it until it listens.
    async fn again(&self, job: &Job, locals: &[SocketAddr]) -> Running {
        loop {
            match Running::start(job, &self.kubeconfig, Some(locals)).await {
                Ok(running) => return running,
                Err(error) => {
                    self.interruptions().said = error.to_string();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn interruptions(&self) -> std::sync::MutexGuard<'_, Interruptions> {
        self.interruptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
