//! Who makes a request, and the secrets that prove it.

use std::fmt;

/// An authenticated (or anonymous) user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    /// The pod that a service account's token is bound to, as `extra` tells it.
    pub(crate) extra: Vec<(String, String)>,
}

pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const NODES: &str = "system:nodes";

impl User {
    pub(crate) fn new<G: Into<String>>(
        name: impl Into<String>,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        Self {
            name: name.into(),
            uid: String::new(),
            groups: groups.into_iter().map(Into::into).collect(),
            extra: Vec::new(),
        }
    }

    pub(crate) fn anonymous() -> Self {
        Self::new("system:anonymous", [UNAUTHENTICATED])
    }

    /// May do everything, whatever the roles say.
    pub(crate) fn administrator() -> Self {
        Self::new("kubernetes-admin", [MASTERS, AUTHENTICATED])
    }

    pub(crate) fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), [NODES, AUTHENTICATED])
    }

    pub(crate) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.to_owned(),
        ];
        let name = format!("system:serviceaccount:{namespace}:{name}");
        Self {
            uid: uid.to_owned(),
            ..Self::new(name, groups)
        }
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// A bearer token. It is shown nowhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// 256 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        ))
    }

    /// The token itself, to be sent or to be written into a kubeconfig.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl From<&str> for Secret {
    fn from(token: &str) -> Self {
        Self(token.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
