//! Bearer tokens: the fixed ones of the administrator and the nodes, and those that service accounts
//! are given.
//!
//! A service account's token is random, kept in memory, and good as long as it has not expired and
//! what it was issued for is still there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use inroads_harness::access::Secret;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec, TokenRequestStatus},
        core::v1::ServiceAccount,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    object::Key,
    registry::{self, SERVICE_ACCOUNTS},
    rest::Rest,
    status::Status,
    user::User,
};

const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
const SHORTEST: i64 = 600;

/// The tokens that are good from start to end.
#[derive(Clone, Debug)]
pub struct FixedTokens {
    /// May do everything.
    pub admin: Secret<String>,
    /// By node name: what each node's kubelet and kube-proxy show to the API server.
    pub nodes: BTreeMap<String, Secret<String>>,
    /// What the API server shows to kubelets.
    pub kubelet: Secret<String>,
}

/// 256 random bits, as text.
pub(crate) fn fresh_token() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) struct Tokens {
    fixed: HashMap<String, User>,
    issued: Mutex<HashMap<String, Issued>>,
}

struct Issued {
    account: Key,
    account_uid: String,
    bound: Option<Bound>,
    audiences: Vec<String>,
    expires: Timestamp,
}

/// Another object that must be there for the token to be good.
struct Bound {
    resource: &'static registry::Resource,
    key: Key,
    uid: String,
}

impl Tokens {
    pub(crate) fn new(fixed: &FixedTokens) -> Self {
        let nodes = fixed.nodes.iter();
        let nodes = nodes.map(|(name, token)| (token.expose().clone(), User::node(name)));
        let admin = (fixed.admin.expose().clone(), User::administrator());
        Self {
            fixed: nodes.chain([admin]).collect(),
            issued: Mutex::default(),
        }
    }

    /// Whose token it is, if it is good.
    pub(crate) fn authenticate(&self, rest: &Rest, token: &str, now: Timestamp) -> Option<User> {
        self.review(rest, token, now).map(|(user, _audiences)| user)
    }

    /// Whose token it is, and for which audiences.
    pub(crate) fn review(
        &self,
        rest: &Rest,
        token: &str,
        now: Timestamp,
    ) -> Option<(User, Vec<String>)> {
        if let Some(user) = self.fixed.get(token) {
            return Some((user.clone(), vec![AUDIENCE.to_owned()]));
        }
        let issued = self.lock();
        let issued = issued.get(token).filter(|issued| issued.expires > now)?;
        let account = rest.store.find(&SERVICE_ACCOUNTS, &issued.account)?;
        if account.uid() != issued.account_uid {
            return None;
        }
        let Key { namespace, name } = &issued.account;
        let mut user = User::service_account(namespace, name, account.uid());
        if let Some(bound) = &issued.bound {
            let found = rest.store.find(bound.resource, &bound.key)?;
            if found.uid() != bound.uid {
                return None;
            }
            let kind = bound.resource.singular;
            user.extra = vec![
                (
                    format!("authentication.kubernetes.io/{kind}-name"),
                    bound.key.name.clone(),
                ),
                (
                    format!("authentication.kubernetes.io/{kind}-uid"),
                    bound.uid.clone(),
                ),
            ];
        }
        Some((user, issued.audiences.clone()))
    }

    /// Issues a token for a service account.
    pub(crate) fn issue(
        &self,
        rest: &Rest,
        account: &Key,
        request: TokenRequest,
        now: Timestamp,
    ) -> Result<TokenRequest, Status> {
        let found = rest
            .get(&SERVICE_ACCOUNTS, account)?
            .typed::<ServiceAccount>();
        let account_uid = found.metadata.uid.clone().unwrap_or_default();
        let mut spec = request.spec.unwrap_or_default();
        let audiences = spec
            .audiences
            .clone()
            .filter(|audiences| !audiences.is_empty());
        let audiences = audiences.unwrap_or_else(|| vec![AUDIENCE.to_owned()]);
        spec.audiences = Some(audiences.clone());
        let seconds = *spec.expiration_seconds.get_or_insert(3600);
        if seconds < SHORTEST {
            return Err(Status::unprocessable(format!(
                "TokenRequest.authentication.k8s.io \"{}\" is invalid: spec.expirationSeconds: \
                 Invalid value: {seconds}: may not specify a duration less than 10 minutes",
                account.name
            )));
        }
        let bound = find_bound(rest, account, &spec)?;
        let expires = now.saturating_add(SignedDuration::from_secs(seconds));
        let expires = expires.unwrap_or(Timestamp::MAX);
        let token = fresh_token();
        let issued = Issued {
            account: account.clone(),
            account_uid,
            bound,
            audiences,
            expires,
        };
        let mut all = self.lock();
        all.retain(|_, issued| issued.expires > now);
        all.insert(token.clone(), issued);
        let status = TokenRequestStatus {
            token: Some(token),
            expiration_timestamp: Some(Time(expires)),
        };
        Ok(TokenRequest {
            spec: Some(spec),
            status: Some(status),
            ..request
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Issued>> {
        // Tokens are inserted and removed whole.
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find_bound(
    rest: &Rest,
    account: &Key,
    spec: &TokenRequestSpec,
) -> Result<Option<Bound>, Status> {
    let Some(reference) = &spec.bound_object_ref else {
        return Ok(None);
    };
    let name = reference.name.clone().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or_default();
    let (resource, namespace) = match kind {
        "Pod" => (&registry::PODS, account.namespace.as_str()),
        "Secret" => (&registry::SECRETS, account.namespace.as_str()),
        "Node" => (&registry::NODES, ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to an object of kind {kind:?}: only Pod, Secret and Node"
            )));
        }
    };
    let key = Key::new(namespace, name);
    let found = rest.get(resource, &key)?;
    let wanted = reference
        .uid
        .clone()
        .unwrap_or_else(|| found.uid().to_owned());
    if wanted != found.uid() {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(resource, &key.name, why));
    }
    Ok(Some(Bound {
        resource,
        key,
        uid: wanted,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::{
        admission::ServiceNetwork,
        rest::{DeleteOptions, WriteOptions},
    };
    use serde_json::{Value, json};

    fn rest() -> Rest {
        let rest = Rest::new(ServiceNetwork::default(), false);
        let create = |resource, namespace: &str, value: Value| {
            rest.create(resource, namespace, value, &WriteOptions::trusted("test"))
                .unwrap();
        };
        create(
            &registry::NAMESPACES,
            "",
            json!({"metadata": {"name": "a"}}),
        );
        let spec = json!({"containers": [{"name": "c", "image": "i"}]});
        create(
            &registry::PODS,
            "a",
            json!({"metadata": {"name": "p"}, "spec": spec}),
        );
        rest
    }

    fn tokens() -> Tokens {
        let nodes = [("worker-1".to_owned(), Secret::new("node".to_owned()))].into();
        let (admin, kubelet) = (
            Secret::new("admin".to_owned()),
            Secret::new("kubelet".to_owned()),
        );
        Tokens::new(&FixedTokens {
            admin,
            nodes,
            kubelet,
        })
    }

    fn issue(tokens: &Tokens, rest: &Rest, spec: Value) -> Result<String, Status> {
        let request = serde_json::from_value(json!({"spec": spec})).unwrap();
        let issued = tokens.issue(rest, &Key::new("a", "default"), request, Timestamp::now())?;
        Ok(issued.status.unwrap().token.unwrap())
    }

    #[test]
    fn fixed_tokens_are_those_of_the_administrator_and_the_nodes() {
        let (rest, tokens) = (rest(), tokens());
        let who = |token: &str| tokens.authenticate(&rest, token, Timestamp::now());
        assert_eq!(who("admin").unwrap().name, "kubernetes-admin");
        assert_eq!(who("node").unwrap().name, "system:node:worker-1");
        assert_eq!(who("kubelet"), None);
        assert_eq!(who(""), None);
    }

    #[test]
    fn an_issued_token_is_the_accounts_until_it_expires() {
        let (rest, tokens) = (rest(), tokens());
        let token = issue(&tokens, &rest, json!({"expirationSeconds": 600})).unwrap();
        let now = Timestamp::now();
        let user = tokens.authenticate(&rest, &token, now).unwrap();
        assert_eq!(user.name, "system:serviceaccount:a:default");
        assert!(user.is_in("system:serviceaccounts:a"));
        let later = now + SignedDuration::from_secs(601);
        assert_eq!(tokens.authenticate(&rest, &token, later), None);
        assert!(issue(&tokens, &rest, json!({"expirationSeconds": 60})).is_err());
    }

    #[test]
    fn a_token_goes_with_the_pod_it_is_bound_to() {
        let (rest, tokens) = (rest(), tokens());
        let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
        let token = issue(&tokens, &rest, bound.clone()).unwrap();
        let who = || tokens.authenticate(&rest, &token, Timestamp::now());
        assert_eq!(who().unwrap().extra[0].1, "p");
        rest.delete(
            &registry::PODS,
            &Key::new("a", "p"),
            &DeleteOptions::default(),
        )
        .unwrap();
        assert_eq!(who(), None);
        assert!(issue(&tokens, &rest, bound).unwrap_err().is_not_found());
    }

    #[test]
    fn a_token_goes_with_its_account() {
        let (rest, tokens) = (rest(), tokens());
        let token = issue(&tokens, &rest, json!({})).unwrap();
        let key = Key::new("a", "default");
        rest.delete(&SERVICE_ACCOUNTS, &key, &DeleteOptions::default())
            .unwrap();
        assert_eq!(tokens.authenticate(&rest, &token, Timestamp::now()), None);
    }
}
