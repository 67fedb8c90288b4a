//! Who makes a request: by bearer token, or in the name of somebody else who may be impersonated.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use jiff::Timestamp;

use crate::apiserver::{
    rbac::{self, Action, On, ResourceName},
    server::Server,
    status::Status,
    user::{AUTHENTICATED, User},
};

const AS_USER: &str = "impersonate-user";
const AS_GROUP: &str = "impersonate-group";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The user of a request. Without a token that is nobody in particular; a token that is not good is
/// refused.
pub(super) fn of_request(server: &Server, headers: &HeaderMap) -> Result<User, Status> {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return Ok(User::anonymous());
    };
    let token = authorization.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let user = token.and_then(|token| {
        server
            .tokens
            .authenticate(&server.rest, token, Timestamp::now())
    });
    impersonate(server, user.ok_or_else(Status::unauthorized)?, headers)
}

/// `kubectl --as`: the other user, if the real one may act for them.
fn impersonate(server: &Server, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let groups: Vec<_> = headers.get_all(AS_GROUP).iter().map(text).collect();
    let Some(name) = headers.get(AS_USER).map(text) else {
        if groups.is_empty() {
            return Ok(user);
        }
        let message = "requested [{Group }] without impersonating a user";
        return Err(Status::internal(message));
    };
    let may = |resource: &str, namespace: &str, name: &str| {
        let on = On::Resource(ResourceName {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..ResourceName::default()
        });
        rbac::authorize(
            &server.rest,
            &user,
            &Action {
                verb: "impersonate".to_owned(),
                on,
            },
        )
    };
    for group in &groups {
        may("groups", "", group)?;
    }
    let account = name
        .strip_prefix(SERVICE_ACCOUNT)
        .and_then(|rest| rest.split_once(':'));
    let mut other = match account {
        Some((namespace, account)) => {
            may("serviceaccounts", namespace, account)?;
            User::service_account(namespace, account, "")
        }
        None => {
            may("users", "", &name)?;
            User::new(name, [AUTHENTICATED])
        }
    };
    if !groups.is_empty() {
        other.groups = groups
            .into_iter()
            .chain([AUTHENTICATED.to_owned()])
            .collect();
    }
    Ok(other)
}
