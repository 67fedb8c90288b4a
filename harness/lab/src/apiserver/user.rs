//! Who makes a request.

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
