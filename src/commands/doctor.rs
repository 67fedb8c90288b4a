//! `inroads doctor`.

use crate::cli::Doctor;
use crate::exit::Exit;

pub(crate) async fn run(_arguments: &Doctor) -> Exit {
    Exit::Success
}
