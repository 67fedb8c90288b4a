//! `inroads clean`.

use inroads_lab::LabState;

use super::print;

/// Removes the files of labs that have ended. Everything else of a lab goes with it, however it ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    let removed = LabState::clean().await?;
    print(&match removed.as_slice() {
        [] => "there was nothing to remove\n".to_owned(),
        names => format!("removed what was left of {}\n", names.join(", ")),
    })
}
