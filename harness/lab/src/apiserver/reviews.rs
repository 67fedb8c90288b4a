//! Questions about rights and identities: objects that are only posted, answered and forgotten.

use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo},
    authorization::v1::{
        LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes,
        ResourceRule, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
        SubjectAccessReviewSpec, SubjectAccessReviewStatus, SubjectRulesReviewStatus,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    rbac::{self, Action, On, ResourceName},
    rest::Rest,
    schema,
    status::Status,
    tokens::Tokens,
    user::{MASTERS, User},
};

/// A kind that can be posted and is not kept.
#[derive(Debug)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
    question: Question,
}

#[derive(Clone, Copy, Debug)]
enum Question {
    MayI,
    MaySomebody,
    MaySomebodyHere,
    WhatMayI,
    WhoIs,
    WhoAmI,
}

pub(crate) static ALL: &[Review] = &[
    Review::new(
        AUTHENTICATION,
        "SelfSubjectReview",
        "selfsubjectreviews",
        Question::WhoAmI,
    ),
    Review::new(
        AUTHENTICATION,
        "TokenReview",
        "tokenreviews",
        Question::WhoIs,
    ),
    Review {
        namespaced: true,
        ..Review::new(
            AUTHORIZATION,
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            Question::MaySomebodyHere,
        )
    },
    Review::new(
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        Question::MayI,
    ),
    Review::new(
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        Question::WhatMayI,
    ),
    Review::new(
        AUTHORIZATION,
        "SubjectAccessReview",
        "subjectaccessreviews",
        Question::MaySomebody,
    ),
];

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    ALL.iter()
        .find(|review| (review.group, review.version, review.plural) == (group, version, plural))
}

impl Review {
    const fn new(
        group: &'static str,
        kind: &'static str,
        plural: &'static str,
        question: Question,
    ) -> Self {
        Self {
            group,
            version: "v1",
            kind,
            plural,
            namespaced: false,
            question,
        }
    }

    /// The posted object with its answer in `status`.
    pub(crate) fn answer(
        &self,
        rest: &Rest,
        tokens: &Tokens,
        asker: &User,
        value: Value,
    ) -> Result<Value, Status> {
        match self.question {
            Question::MayI => self.fill(value, |review: &mut SelfSubjectAccessReview| {
                let spec = &review.spec;
                let action = action(
                    spec.resource_attributes.as_ref(),
                    spec.non_resource_attributes.as_ref(),
                )?;
                review.status = Some(verdict(rest, asker, &action));
                Ok(())
            }),
            Question::MaySomebody => self.fill(value, |review: &mut SubjectAccessReview| {
                review.status = Some(verdict_on(rest, &review.spec)?);
                Ok(())
            }),
            Question::MaySomebodyHere => {
                self.fill(value, |review: &mut LocalSubjectAccessReview| {
                    review.status = Some(verdict_on(rest, &review.spec)?);
                    Ok(())
                })
            }
            Question::WhatMayI => self.fill(value, |review: &mut SelfSubjectRulesReview| {
                let namespace = review.spec.namespace.clone().unwrap_or_default();
                review.status = Some(rules(rest, asker, &namespace));
                Ok(())
            }),
            Question::WhoIs => self.fill(value, |review: &mut TokenReview| {
                let token = review.spec.token.clone();
                let wanted = review.spec.audiences.clone().unwrap_or_default();
                review.status = Some(identity(rest, tokens, &token, &wanted));
                Ok(())
            }),
            Question::WhoAmI => {
                let status = SelfSubjectReviewStatus {
                    user_info: Some(info(asker)),
                };
                Ok(json!({
                    "kind": self.kind,
                    "apiVersion": format!("{}/{}", self.group, self.version),
                    "metadata": {"creationTimestamp": Timestamp::now().to_string()},
                    "status": status,
                }))
            }
        }
    }

    fn fill<R: DeserializeOwned + Serialize>(
        &self,
        mut value: Value,
        answer: impl FnOnce(&mut R) -> Result<(), Status>,
    ) -> Result<Value, Status> {
        let refuse = |error: &dyn std::fmt::Display| {
            Status::bad_request(format!(
                "{kind} in version \"v1\" cannot be handled as a {kind}: {error}",
                kind = self.kind
            ))
        };
        value["kind"] = self.kind.into();
        value["apiVersion"] = format!("{}/{}", self.group, self.version).into();
        schema::decode(&mut value, schema::named(self.kind)).map_err(|misfit| refuse(&misfit))?;
        let mut review: R = serde_json::from_value(value).map_err(|error| refuse(&error))?;
        answer(&mut review)?;
        serde_json::to_value(review).map_err(|error| Status::internal(error.to_string()))
    }
}

fn action(
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) -> Result<Action, Status> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match (resource, path) {
        (Some(resource), None) => Ok(Action {
            verb: text(&resource.verb),
            on: On::Resource(ResourceName {
                group: text(&resource.group),
                resource: text(&resource.resource),
                subresource: text(&resource.subresource),
                namespace: text(&resource.namespace),
                name: text(&resource.name),
            }),
        }),
        (None, Some(path)) => Ok(Action {
            verb: text(&path.verb),
            on: On::Path(text(&path.path)),
        }),
        _ => Err(Status::unprocessable(
            "exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be specified",
        )),
    }
}

fn verdict(rest: &Rest, user: &User, action: &Action) -> SubjectAccessReviewStatus {
    let allowed = rbac::is_allowed(rest, user, action);
    SubjectAccessReviewStatus {
        allowed,
        ..SubjectAccessReviewStatus::default()
    }
}

fn verdict_on(
    rest: &Rest,
    spec: &SubjectAccessReviewSpec,
) -> Result<SubjectAccessReviewStatus, Status> {
    let path = spec.non_resource_attributes.as_ref();
    let action = action(spec.resource_attributes.as_ref(), path)?;
    let groups = spec.groups.clone().unwrap_or_default();
    let user = User::new(spec.user.clone().unwrap_or_default(), groups);
    Ok(verdict(rest, &user, &action))
}

fn rules(rest: &Rest, user: &User, namespace: &str) -> SubjectRulesReviewStatus {
    let mut status = SubjectRulesReviewStatus::default();
    let everything = || vec!["*".to_owned()];
    if user.is_in(MASTERS) {
        status.resource_rules.push(ResourceRule {
            api_groups: Some(everything()),
            resources: Some(everything()),
            verbs: everything(),
            resource_names: None,
        });
        status.non_resource_rules.push(NonResourceRule {
            non_resource_urls: Some(everything()),
            verbs: everything(),
        });
    }
    for rule in rbac::rules_of(rest, user, namespace) {
        if rule.non_resource_urls.iter().flatten().next().is_some() {
            status.non_resource_rules.push(NonResourceRule {
                non_resource_urls: rule.non_resource_urls,
                verbs: rule.verbs,
            });
        } else {
            status.resource_rules.push(ResourceRule {
                api_groups: rule.api_groups,
                resource_names: rule.resource_names,
                resources: rule.resources,
                verbs: rule.verbs,
            });
        }
    }
    status
}

fn identity(rest: &Rest, tokens: &Tokens, token: &str, wanted: &[String]) -> TokenReviewStatus {
    let refused = |error: &str| TokenReviewStatus {
        authenticated: Some(false),
        error: Some(error.to_owned()),
        ..TokenReviewStatus::default()
    };
    let Some((user, audiences)) = tokens.review(rest, token, Timestamp::now()) else {
        return refused("[invalid bearer token]");
    };
    let meant: Vec<_> = audiences
        .iter()
        .filter(|own| wanted.is_empty() || wanted.contains(own))
        .cloned()
        .collect();
    if meant.is_empty() {
        return refused("token audiences do not match");
    }
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(meant),
        user: Some(info(&user)),
        error: None,
    }
}

fn info(user: &User) -> UserInfo {
    let extra = user
        .extra
        .iter()
        .map(|(key, value)| (key.clone(), vec![value.clone()]));
    UserInfo {
        username: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(extra.collect())
            .filter(|extra: &std::collections::BTreeMap<_, _>| !extra.is_empty()),
    }
}
