//! Namespaces.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::Value;

use super::Kind;
use crate::apiserver::{
    registry::{NAMESPACES, Resource},
    syntax,
    table::{AGE, Column, NAME, age},
};

/// The finalizer that stands for a namespace's content.
pub(crate) const CONTENT_FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Kind for Namespace {
    const RESOURCE: &'static Resource = &NAMESPACES;
    const NAME: fn(&str) -> syntax::Checked = syntax::label_1123;
    const COLUMNS: &'static [Column] = &[NAME, Column::text("Status"), AGE];

    fn set_defaults(&mut self) {
        let name = self.name().to_owned();
        self.metadata
            .labels
            .get_or_insert_default()
            .insert(NAME_LABEL.to_owned(), name);
    }

    fn prepare_create(&mut self) {
        let finalizers = self
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers
            .iter()
            .any(|finalizer| finalizer == CONTENT_FINALIZER)
        {
            finalizers.push(CONTENT_FINALIZER.to_owned());
        }
        let phase = Some("Active".to_owned());
        self.status = Some(NamespaceStatus {
            phase,
            conditions: None,
        });
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let phase = self
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        vec![
            self.name().into(),
            phase.unwrap_or_default().into(),
            age(&self.metadata, now),
        ]
    }
}
