//! ServiceAccounts. Their tokens are in `tokens`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use super::Kind;
use crate::apiserver::{
    registry::{Resource, SERVICE_ACCOUNTS},
    table::{AGE, Column, NAME, age},
};

impl Kind for ServiceAccount {
    const RESOURCE: &'static Resource = &SERVICE_ACCOUNTS;
    const COLUMNS: &'static [Column] = &[NAME, Column::number("Secrets"), AGE];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let secrets = self.secrets.iter().flatten().count();
        vec![self.name().into(), secrets.into(), age(&self.metadata, now)]
    }
}
