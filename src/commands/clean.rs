//! `inroads clean`.

use std::time::Duration;

use inroads_clusters::ContextOptions;
use inroads_harness::kubernetes::Applier;
use inroads_lab::LabState;

use super::print;
use crate::cli::{Clean, Which};

/// Longest time for a namespace to be gone.
const LIMIT: Duration = Duration::from_secs(180);

/// Removes the files of labs that have ended, what runs have left on this machine's engine whose controller is
/// gone, and, where a cluster is named, what runs have left there.
pub(crate) async fn run(arguments: &Clean) -> anyhow::Result<()> {
    let mut removed = LabState::clean().await?;
    removed.extend(inroads_clusters::clean().await?);
    if let Some(Which::Context(name)) = &arguments.cluster {
        let options = ContextOptions {
            name: name.clone(),
            kubeconfig: arguments.kubeconfig.clone(),
            agent_image: None,
        };
        let (client, title) = inroads_clusters::client(&options).await?;
        let objects = Applier::of_all_runs(client, &arguments.namespace)
            .sweep(LIMIT)
            .await?;
        removed.extend(
            objects
                .into_iter()
                .map(|object| format!("{object} of {title}")),
        );
    }
    print(&match removed.as_slice() {
        [] => "there was nothing to remove\n".to_owned(),
        names => format!("removed what was left of {}\n", names.join(", ")),
    })
}
