//! ConfigMaps and Secrets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use serde_json::Value;

use super::{Kind, metadata::IMMUTABLE};
use crate::apiserver::{
    field::{Path, Problems},
    registry::{CONFIG_MAPS, Resource, SECRETS},
    syntax,
    table::{AGE, Column, NAME, age},
};

const SIZE_LIMIT: usize = 1024 * 1024;
const FIXED: &str = "field is immutable when `immutable` is set";

impl Kind for ConfigMap {
    const RESOURCE: &'static Resource = &CONFIG_MAPS;
    const COLUMNS: &'static [Column] = &[NAME, Column::number("Data"), AGE];

    fn validate(&self, problems: &mut Problems) {
        let texts = self
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key, value.len()));
        validate_data("data", texts, problems);
        let bytes = self
            .binary_data
            .iter()
            .flatten()
            .map(|(key, value)| (key, value.0.len()));
        validate_data("binaryData", bytes, problems);
        let texts = self.data.as_ref();
        for key in self.binary_data.iter().flatten().map(|(key, _)| key) {
            if texts.is_some_and(|texts| texts.contains_key(key)) {
                let why = "duplicate of key present in data";
                problems.invalid(&Path::new("binaryData").key(key), key, why);
            }
        }
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        if old.immutable != Some(true) {
            return;
        }
        if self.immutable != Some(true) {
            problems.forbidden(&Path::new("immutable"), FIXED);
        }
        if self.data != old.data {
            problems.forbidden(&Path::new("data"), FIXED);
        }
        if self.binary_data != old.binary_data {
            problems.forbidden(&Path::new("binaryData"), FIXED);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let keys = self.data.iter().flatten().count() + self.binary_data.iter().flatten().count();
        vec![self.name().into(), keys.into(), age(&self.metadata, now)]
    }
}

impl Kind for Secret {
    const RESOURCE: &'static Resource = &SECRETS;
    const COLUMNS: &'static [Column] = &[NAME, Column::text("Type"), Column::number("Data"), AGE];

    /// `stringData` is only a way to write `data`.
    fn set_defaults(&mut self) {
        self.type_.get_or_insert_with(|| "Opaque".to_owned());
        let Some(texts) = self.string_data.take() else {
            return;
        };
        let data: &mut BTreeMap<_, _> = self.data.get_or_insert_default();
        data.extend(
            texts
                .into_iter()
                .map(|(key, text)| (key, ByteString(text.into_bytes()))),
        );
    }

    fn validate(&self, problems: &mut Problems) {
        let sizes = self
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key, value.0.len()));
        validate_data("data", sizes, problems);
        for key in required_keys(self.type_.as_deref().unwrap_or_default()) {
            if !self
                .data
                .as_ref()
                .is_some_and(|data| data.contains_key(*key))
            {
                problems.required(&Path::new("data").key(key), "");
            }
        }
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        if self.type_ != old.type_ {
            let ty = self.type_.as_deref().unwrap_or_default();
            problems.invalid(&Path::new("type"), ty, IMMUTABLE);
        }
        if old.immutable == Some(true) {
            if self.immutable != Some(true) {
                problems.forbidden(&Path::new("immutable"), FIXED);
            }
            if self.data != old.data {
                problems.forbidden(&Path::new("data"), FIXED);
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ty = self.type_.as_deref().unwrap_or_default();
        let keys = self.data.iter().flatten().count();
        vec![
            self.name().into(),
            ty.into(),
            keys.into(),
            age(&self.metadata, now),
        ]
    }
}

fn validate_data<'a>(
    field: &str,
    entries: impl Iterator<Item = (&'a String, usize)>,
    problems: &mut Problems,
) {
    let path = Path::new(field);
    let mut total = 0;
    for (key, size) in entries {
        total += size;
        if let Err(why) = syntax::config_key(key) {
            problems.invalid(&path.key(key), key, why);
        }
    }
    if total > SIZE_LIMIT {
        problems.too_long(&path, SIZE_LIMIT);
    }
}

fn required_keys(ty: &str) -> &'static [&'static str] {
    match ty {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}
