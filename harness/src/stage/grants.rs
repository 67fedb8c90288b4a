//! The rights that manifests grant, and taking one of them away.

use std::fmt;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Stage;
use crate::kubernetes::{KubernetesError, documents};
use crate::method::Manifest;

/// What one Role grants.
pub struct Grant {
    namespace: String,
    name: String,
    /// Its rules.
    pub rules: Vec<Right>,
}

/// One rule of a Role.
pub struct Right {
    rule: PolicyRule,
    namespace: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources = self.rule.resources.as_deref().unwrap_or_default();
        let (verbs, resources) = (self.rule.verbs.join(", "), resources.join(", "));
        write!(f, "{verbs} on {resources} in {}", self.namespace)
    }
}

impl Stage {
    /// The Roles that manifests describe, as they stand in the cluster.
    ///
    /// # Errors
    /// [`KubernetesError::Manifest`] where one is none.
    pub fn grants(&self, manifests: &[Manifest]) -> Result<Vec<Grant>, KubernetesError> {
        let mut grants = Vec::new();
        for manifest in manifests {
            let objects = documents(manifest.file, manifest.yaml)?;
            let roles = objects.into_iter().enumerate();
            for (document, mut object) in roles.filter(|(_, object)| object["kind"] == "Role") {
                self.applier().adopt(&mut object);
                let role: Role =
                    serde_json::from_value(object).map_err(|error| KubernetesError::Manifest {
                        file: manifest.file.to_owned(),
                        document,
                        reason: error.to_string(),
                    })?;
                let namespace = role.metadata.namespace.unwrap_or_default();
                let rules = role.rules.unwrap_or_default().into_iter();
                let rules = rules.map(|rule| Right {
                    rule,
                    namespace: namespace.clone(),
                });
                grants.push(Grant {
                    rules: rules.collect(),
                    namespace,
                    name: role.metadata.name.unwrap_or_default(),
                });
            }
        }
        Ok(grants)
    }

    /// Gives a Role all its rules, or all but that of this index.
    ///
    /// # Errors
    /// Where the API refuses.
    pub async fn grant(
        &self,
        grant: &Grant,
        without: Option<usize>,
    ) -> Result<(), KubernetesError> {
        let roles: Api<Role> = Api::namespaced(self.client.clone(), &grant.namespace);
        let rules = grant.rules.iter().enumerate();
        let rules: Vec<&PolicyRule> = rules
            .filter(|(index, _)| Some(*index) != without)
            .map(|(_, right)| &right.rule)
            .collect();
        let patch = Patch::Merge(json!({ "rules": rules }));
        let changed = roles
            .patch(&grant.name, &PatchParams::default(), &patch)
            .await;
        changed
            .map(drop)
            .map_err(KubernetesError::call("changing", "role", &grant.name))
    }
}
