//! What a container is started with: environment and volumes, resolved from the API.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use inroads_harness::kubernetes::is_not_found;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, EnvVar, KeyToPath, ObjectFieldSelector, Pod,
    Secret, ServiceAccount, VolumeProjection,
};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};

use super::Node;
use crate::rootfs::Volume;
use crate::spec::addresses;

/// Where a pod's token is found, as on any cluster.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A container cannot be started as it is described; the reason goes into its status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Something it refers to is not there, or lacks a key.
    #[error("{0}")]
    Missing(String),
    /// It asks for something that the lab does not have.
    #[error("the lab has no {0}")]
    Unsupported(String),
    /// The API failed.
    #[error("reading {what}: {source}")]
    Api {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// A file could not be written.
    #[error("writing {}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Reads what containers of one pod refer to.
pub(crate) struct Resolver<'a> {
    pub(crate) node: &'a Node,
    pub(crate) pod: &'a Pod,
    pub(crate) address: Ipv4Addr,
    /// The pod's folder on this node.
    pub(crate) folder: &'a Path,
}

impl Resolver<'_> {
    /// The whole environment of `container`.
    pub(crate) async fn environment(
        &self,
        container: &Container,
    ) -> Result<Vec<(String, String)>, ConfigError> {
        let mut all = BTreeMap::from([
            (
                "PATH".to_owned(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ),
            ("HOME".to_owned(), "/root".to_owned()),
            ("HOSTNAME".to_owned(), self.pod.name_any()),
            (
                "KUBERNETES_SERVICE_HOST".to_owned(),
                addresses::API_SERVICE.to_string(),
            ),
            ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
        ]);
        for from in container.env_from.iter().flatten() {
            let prefix = from.prefix.clone().unwrap_or_default();
            let mut data = BTreeMap::new();
            if let Some(reference) = &from.config_map_ref {
                data.extend(self.config_map(&reference.name, reference.optional).await?);
            }
            if let Some(reference) = &from.secret_ref {
                data.extend(self.secret(&reference.name, reference.optional).await?);
            }
            all.extend(data.into_iter().map(|(key, value)| {
                (
                    format!("{prefix}{key}"),
                    String::from_utf8_lossy(&value).into_owned(),
                )
            }));
        }
        for variable in container.env.iter().flatten() {
            if let Some(value) = self.variable(variable).await? {
                let expanded = expand(&value, &all);
                all.insert(variable.name.clone(), expanded);
            }
        }
        Ok(all.into_iter().collect())
    }

    async fn variable(&self, variable: &EnvVar) -> Result<Option<String>, ConfigError> {
        let Some(source) = &variable.value_from else {
            return Ok(Some(variable.value.clone().unwrap_or_default()));
        };
        if let Some(field) = &source.field_ref {
            return self.field(field).map(Some);
        }
        let (kind, name, key, optional, data) = if let Some(reference) = &source.config_map_key_ref
        {
            let data = self.config_map(&reference.name, reference.optional).await?;
            (
                "configmap",
                &reference.name,
                &reference.key,
                reference.optional,
                data,
            )
        } else if let Some(reference) = &source.secret_key_ref {
            let data = self.secret(&reference.name, reference.optional).await?;
            (
                "secret",
                &reference.name,
                &reference.key,
                reference.optional,
                data,
            )
        } else {
            return Err(ConfigError::Unsupported(format!(
                "source for the variable `{}`",
                variable.name
            )));
        };
        match data.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional == Some(true) => Ok(None),
            None => Err(ConfigError::Missing(format!(
                "couldn't find key {key} in {kind} \"{name}\""
            ))),
        }
    }

    /// A field of the pod (the downward API).
    fn field(&self, selector: &ObjectFieldSelector) -> Result<String, ConfigError> {
        let spec = self.pod.spec.as_ref();
        let path = selector.field_path.as_str();
        let keyed = |prefix: &str, from: &BTreeMap<String, String>| {
            let key = path
                .strip_prefix(prefix)?
                .strip_prefix("['")?
                .strip_suffix("']")?;
            Some(from.get(key).cloned().unwrap_or_default())
        };
        let value = match path {
            "metadata.name" => Some(self.pod.name_any()),
            "metadata.namespace" => self.pod.namespace(),
            "metadata.uid" => self.pod.uid(),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "status.hostIP" => Some(self.node.spec.address.to_string()),
            "status.podIP" | "status.podIPs" => Some(self.address.to_string()),
            _ => keyed("metadata.labels", self.pod.labels())
                .or_else(|| keyed("metadata.annotations", self.pod.annotations())),
        };
        value.ok_or_else(|| {
            ConfigError::Unsupported(format!("field `{path}` of pods for containers"))
        })
    }

    /// All volumes of `container`, made on this node: its mounts, and its token.
    pub(crate) async fn volumes(&self, container: &Container) -> Result<Vec<Volume>, ConfigError> {
        let spec = self.pod.spec.as_ref();
        let declared = spec
            .and_then(|spec| spec.volumes.as_deref())
            .unwrap_or_default();
        let mut volumes = Vec::new();
        for wanted in container.volume_mounts.iter().flatten() {
            let volume = declared
                .iter()
                .find(|volume| volume.name == wanted.name)
                .ok_or_else(|| {
                    ConfigError::Missing(format!(
                        "volume \"{}\" is not declared by the pod",
                        wanted.name
                    ))
                })?;
            let (folder, writable) = self.make_volume(volume).await?;
            volumes.push(Volume {
                source: wanted
                    .sub_path
                    .as_ref()
                    .map_or(folder.clone(), |sub| folder.join(sub)),
                target: PathBuf::from(&wanted.mount_path),
                read_only: !writable || wanted.read_only == Some(true),
            });
        }
        let automounts = spec
            .and_then(|spec| spec.automount_service_account_token)
            .unwrap_or(true);
        if automounts
            && !volumes
                .iter()
                .any(|volume| volume.target == Path::new(TOKEN_FOLDER))
        {
            let folder = self.folder.join("token");
            self.write_all(&folder, &self.token_files().await?).await?;
            volumes.push(Volume {
                source: folder,
                target: TOKEN_FOLDER.into(),
                read_only: true,
            });
        }
        Ok(volumes)
    }

    /// Makes a volume and says whether containers may write to it.
    async fn make_volume(
        &self,
        volume: &k8s_openapi::api::core::v1::Volume,
    ) -> Result<(PathBuf, bool), ConfigError> {
        let folder = self.folder.join("volumes").join(&volume.name);
        if volume.empty_dir.is_some() {
            self.write_all(&folder, &BTreeMap::new()).await?;
            return Ok((folder, true));
        }
        if let Some(path) = &volume.host_path {
            return Ok((PathBuf::from(&path.path), true));
        }
        let files = if let Some(source) = &volume.config_map {
            select(
                self.config_map(&source.name, source.optional).await?,
                source.items.as_deref(),
            )?
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.clone().unwrap_or_default();
            select(
                self.secret(&name, source.optional).await?,
                source.items.as_deref(),
            )?
        } else if let Some(source) = &volume.downward_api {
            self.fields(source.items.as_deref().unwrap_or_default())?
        } else if let Some(source) = &volume.projected {
            self.projected(source.sources.as_deref().unwrap_or_default())
                .await?
        } else {
            return Err(ConfigError::Unsupported(format!(
                "volume of the kind that \"{}\" is",
                volume.name
            )));
        };
        self.write_all(&folder, &files).await?;
        Ok((folder, false))
    }

    async fn projected(&self, sources: &[VolumeProjection]) -> Result<Files, ConfigError> {
        let mut files = Files::new();
        for source in sources {
            if let Some(map) = &source.config_map {
                files.extend(select(
                    self.config_map(&map.name, map.optional).await?,
                    map.items.as_deref(),
                )?);
            } else if let Some(secret) = &source.secret {
                files.extend(select(
                    self.secret(&secret.name, secret.optional).await?,
                    secret.items.as_deref(),
                )?);
            } else if let Some(token) = &source.service_account_token {
                let all = self.token_files().await?;
                files.insert(token.path.clone(), all["token"].clone());
            } else if let Some(fields) = &source.downward_api {
                files.extend(self.fields(fields.items.as_deref().unwrap_or_default())?);
            } else {
                return Err(ConfigError::Unsupported(
                    "projected volume of that kind".to_owned(),
                ));
            }
        }
        Ok(files)
    }

    /// Fields of the pod as files.
    fn fields(&self, items: &[DownwardAPIVolumeFile]) -> Result<Files, ConfigError> {
        let file = |item: &DownwardAPIVolumeFile| match &item.field_ref {
            Some(field) => Ok((item.path.clone(), self.field(field)?.into_bytes())),
            None => Err(ConfigError::Unsupported(format!(
                "source for the file `{}`",
                item.path
            ))),
        };
        items.iter().map(file).collect()
    }

    /// A token of the pod's service account, bound to the pod, and what goes with it.
    async fn token_files(&self) -> Result<Files, ConfigError> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let spec = self.pod.spec.as_ref();
        let account = spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or("default".to_owned());
        let api: Api<ServiceAccount> = Api::namespaced(self.node.client.clone(), &namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(24 * 3600),
                bound_object_ref: Some(BoundObjectReference {
                    kind: Some("Pod".to_owned()),
                    api_version: Some("v1".to_owned()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let made = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await;
        let made = made.map_err(|source| ConfigError::Api {
            what: format!("a token of serviceaccount \"{account}\""),
            source: Box::new(source),
        })?;
        let token = made
            .status
            .and_then(|status| status.token)
            .unwrap_or_default();
        Ok(Files::from([
            ("token".to_owned(), token.into_bytes()),
            ("ca.crt".to_owned(), self.node.spec.ca.clone().into_bytes()),
            ("namespace".to_owned(), namespace.into_bytes()),
        ]))
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Files, ConfigError> {
        let found: Option<ConfigMap> = self.read(name, "configmap", optional).await?;
        let found = found.unwrap_or_default();
        let text = found
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, text)| (key, text.into_bytes()));
        let binary = found
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, bytes)| (key, bytes.0));
        Ok(text.chain(binary).collect())
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<Files, ConfigError> {
        let found: Option<Secret> = self.read(name, "secret", optional).await?;
        let data = found.unwrap_or_default().data.unwrap_or_default();
        Ok(data
            .into_iter()
            .map(|(key, bytes)| (key, bytes.0))
            .collect())
    }

    async fn read<K>(
        &self,
        name: &str,
        kind: &str,
        optional: Option<bool>,
    ) -> Result<Option<K>, ConfigError>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let namespace = self.pod.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.node.client.clone(), &namespace);
        match api.get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_not_found(&error) && optional == Some(true) => Ok(None),
            Err(error) if is_not_found(&error) => {
                Err(ConfigError::Missing(format!("{kind} \"{name}\" not found")))
            }
            Err(source) => Err(ConfigError::Api {
                what: format!("{kind} \"{name}\""),
                source: Box::new(source),
            }),
        }
    }

    async fn write_all(&self, folder: &Path, files: &Files) -> Result<(), ConfigError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ConfigError::File { path, source }
        };
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(failed(folder))?;
        for (name, content) in files {
            let path = folder.join(name);
            tokio::fs::write(&path, content)
                .await
                .map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// Names and contents of files.
type Files = BTreeMap<String, Vec<u8>>;

/// The keys that a volume selects, under the names it gives them; all where it selects none.
fn select(mut data: Files, items: Option<&[KeyToPath]>) -> Result<Files, ConfigError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data);
    };
    let chosen = items.iter().map(|item| {
        let content = data.remove(&item.key);
        let content = content.ok_or_else(|| {
            ConfigError::Missing(format!("references non-existent key: {}", item.key))
        })?;
        Ok((item.path.clone(), content))
    });
    chosen.collect()
}

/// Replaces `$(NAME)` by the variable of that name where there is one; `$$(NAME)` stays, less one `$`.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'));
        if let Some(escaped) = rest.strip_prefix("$$") {
            expanded.push('$');
            rest = escaped;
        } else if let Some((value, after)) =
            reference.and_then(|(name, after)| variables.get(name).map(|value| (value, after)))
        {
            expanded.push_str(value);
            rest = after;
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_kubernetes_does_it() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expanded) in [
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$$", "$"),
            ("$(A)$(A)", "11"),
        ] {
            assert_eq!(expand(text, &variables), expanded, "{text}");
        }
    }

    #[test]
    fn a_volume_that_selects_a_key_that_is_not_there_says_so() {
        let data = Files::from([("a".to_owned(), vec![1])]);
        let item = |key: &str| KeyToPath {
            key: key.to_owned(),
            path: "p".to_owned(),
            ..KeyToPath::default()
        };
        assert!(select(data.clone(), Some(&[item("b")])).is_err());
        assert_eq!(
            select(data, Some(&[item("a")])).unwrap(),
            Files::from([("p".to_owned(), vec![1])])
        );
    }
}
